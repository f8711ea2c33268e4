"""Guides, decisions, and the pages that are generated from the code."""
