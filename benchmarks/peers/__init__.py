"""Other servers of the same kind for `hot_path --peers`, each set up as its own documentation shows."""
