"""S3D: sparse masked autoencoding."""
