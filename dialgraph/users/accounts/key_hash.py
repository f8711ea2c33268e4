"""What is kept of a key that has 256 random bits: a plain hash is enough."""

import hashlib

KEY_PREFIX = "dg_"
"""How every key of ours begins, a user's and the operator's."""


def hash_of(key: str) -> str:
    """SHA-256, as hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
