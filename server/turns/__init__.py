"""Turns that run: admitted, counted, recorded, joined."""
