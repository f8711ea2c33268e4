"""Calls in Python, for notebooks, scripts and tests: the same graphs and turns as on the server."""
