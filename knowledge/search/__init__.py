"""Questions → the passages that answer them."""
