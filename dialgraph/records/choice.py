"""Which turns are recorded: a setting, and a header of the request."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

HEADER: Final = "x-dialgraph-record"
"""`true` records the call, `false` does not record the turn."""
Wanted = Literal["no", "yes", "failed", "slow"]
"""Whether a turn is recorded: always, or only if it fails or is slow."""


@dataclass(frozen=True, slots=True)
class RecordChoice:
    """The setting `record`, read."""

    usual: str
    """`never`, empty (only by header), `all`, `failures`, `slow`, or a share such as `0.1`."""

    def of(self, call: str, asked: str) -> Wanted:
        """Return whether a turn is recorded. `asked`: the header, or an empty text. A share is one of calls."""
        if self.usual == "never" or asked == "false":
            return "no"
        if asked == "true" or self.usual == "all":
            return "yes"
        if self.usual in ("failures", "slow"):
            return "failed" if self.usual == "failures" else "slow"
        if not self.usual:
            return "no"
        drawn = int.from_bytes(hashlib.blake2b(call.encode("utf-8", "replace"), digest_size=8).digest())
        return "yes" if drawn < float(self.usual) * 2**64 else "no"


def asked_in(headers: Mapping[str, str]) -> str:
    """Return what the header of a request says: `true`, `false`, or an empty text."""
    value = headers.get(HEADER, "").strip().lower()
    return {"1": "true", "yes": "true", "0": "false", "no": "false"}.get(
        value, value if value in ("true", "false") else ""
    )
