"""Checks the head of a request before the parser gets it."""

import re

_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_UPGRADE_LINES = re.compile(rb"\r\n(?:upgrade|http2-settings):[^\r\n]*", re.IGNORECASE)
_UPGRADE_TOKENS = re.compile(rb"(\r\nconnection:[^\r\n]*)", re.IGNORECASE)
_UPGRADE_TOKEN = re.compile(rb"(?:upgrade|http2-settings)[ \t]*,?[ \t]*", re.IGNORECASE)


def is_readable(head: bytes) -> bool:
    """Return whether the head is HTTP/1.0 or 1.1 and the body's length is clear.

    The only transfer coding accepted is `chunked`, because no other would be decoded.
    """
    line = head.partition(b"\r\n")[0]
    codings = _CODING.findall(head)
    return line.endswith((b" HTTP/1.1", b" HTTP/1.0")) and (
        not codings or ([coding.lower() for coding in codings] == [b"chunked"] and line.endswith(b"1.1"))
    )


def without_upgrade(head: bytes) -> bytes:
    """Return the head without an offer to upgrade: the server speaks HTTP/1.1, and the parser would drop the body."""
    if b"upgrade" not in head.lower():
        return head
    return _UPGRADE_TOKENS.sub(lambda line: _UPGRADE_TOKEN.sub(b"", line.group()), _UPGRADE_LINES.sub(b"", head))
