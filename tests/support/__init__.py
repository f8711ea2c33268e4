"""Helpers that tests share: servers, upstreams, databases, readers of the wire."""
