"""Tests of the whole product: its package, documentation, crashes and real clients."""
