"""Cuts documents into passages, and turns each passage into what search compares. Pure."""
