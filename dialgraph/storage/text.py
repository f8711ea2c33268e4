"""Text that every database can store."""


def cleaned(text: str) -> str:
    """Return the text without characters that databases refuse: remove NUL, and replace half surrogate pairs by `?`."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
