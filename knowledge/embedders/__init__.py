"""Texts → vectors: the port and its engines."""
