"""Other servers of the same kind, each as its own documentation shows it, for `hot_path --peers`."""
