"""Corpora: an index table and a fast voxel store made from many scans."""
