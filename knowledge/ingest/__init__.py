"""Files → passages in a store."""
