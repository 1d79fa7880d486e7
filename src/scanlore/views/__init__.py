"""Views: one affine map each, sampled from the level that fits, with reproducible augmentation."""
