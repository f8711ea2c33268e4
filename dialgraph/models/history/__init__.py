"""A conversation in the form that every provider accepts."""
