"""Read and write the files scans come in."""
