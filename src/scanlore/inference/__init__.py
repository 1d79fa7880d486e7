"""A model run over scans: features of whole scans and of their patches."""
