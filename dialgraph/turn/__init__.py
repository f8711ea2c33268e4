"""What a step is given, and what it can do."""
