"""The head of a request, looked at before the parser has it."""

import re

_CODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_UPGRADE_LINES = re.compile(rb"\r\n(?:upgrade|http2-settings):[^\r\n]*", re.IGNORECASE)
_UPGRADE_TOKENS = re.compile(rb"(\r\nconnection:[^\r\n]*)", re.IGNORECASE)
_UPGRADE_TOKEN = re.compile(rb"(?:upgrade|http2-settings)[ \t]*,?[ \t]*", re.IGNORECASE)


def is_readable(head: bytes) -> bool:
    """Whether it is HTTP/1.0 or 1.1, with a body whose length is plain: another transfer coding would not be undone."""
    line = head.partition(b"\r\n")[0]
    codings = _CODING.findall(head)
    return line.endswith((b" HTTP/1.1", b" HTTP/1.0")) and (
        not codings or ([coding.lower() for coding in codings] == [b"chunked"] and line.endswith(b"1.1"))
    )


def without_upgrade(head: bytes) -> bytes:
    """The head without the offer of another protocol: we speak HTTP/1.1 only, and the parser would drop the body."""
    if b"upgrade" not in head.lower():
        return head
    return _UPGRADE_TOKENS.sub(lambda line: _UPGRADE_TOKEN.sub(b"", line.group()), _UPGRADE_LINES.sub(b"", head))
