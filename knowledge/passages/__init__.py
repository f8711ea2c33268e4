"""A document cut into passages, and each passage as search compares it. Pure."""
