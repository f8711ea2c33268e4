"""Users, passwords, sessions, keys, and the secrets that protect them."""
