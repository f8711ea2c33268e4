"""Documents, stores and search."""
