"""What the names in a graph stand for."""
