"""DINOv2's objective, the same code in 2D and 3D (3DINO)."""
