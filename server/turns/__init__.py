"""Turns that run: how they are admitted, joined, counted and recorded."""
