"""Conversations in the form that every provider accepts."""
