"""The hash of a key, which is stored instead of the key. Keys have 256 random bits, so a plain hash is enough."""

import hashlib

KEY_PREFIX = "dg_"
"""The first characters of every key, the users' and the operator's."""


def hash_of(key: str) -> str:
    """Return the SHA-256 of the key, as hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
