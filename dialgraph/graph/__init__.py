"""Declares, checks and compiles graphs."""
