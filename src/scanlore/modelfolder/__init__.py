"""Model folders and the references by which every command names a model."""
