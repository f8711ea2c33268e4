"""How it is reached: the only folder that knows HTTP, and the command line."""
