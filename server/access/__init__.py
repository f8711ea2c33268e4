"""Access to the server: keys, tokens and rates."""
