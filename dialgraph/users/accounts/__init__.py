"""Who may ask: users, passwords, sessions, keys, and the secrets that are kept for them."""
