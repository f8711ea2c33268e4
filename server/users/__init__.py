"""The users' stored data, as the routes use it."""
