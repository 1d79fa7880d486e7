"""Masked autoencoding, dense on CNNs and with dropped tokens on ViTs."""
