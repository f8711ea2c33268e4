"""The messages from the child to its parent: frames of a JSON header and two arrays.

They are not pickled, because the child is not trusted.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

from knowledge.document import Piece
from knowledge.embedders.embed import Vectors
from knowledge.passages.analyse import AnalysedPiece

LENGTHS = struct.Struct("<III")
"""The lengths of the header, the codes and the vectors, in bytes."""
LONGEST = 64 * 2**20


class Frame(NamedTuple):
    """One message: the file's kind, or pieces, or the end, or an error."""

    pieces: list[AnalysedPiece]
    kind: str = ""
    total: int = 0
    """Sent with the kind: how many pieces will come."""
    end: bool = False
    error: str = ""


def write_pieces(out: BinaryIO, batch: Sequence[AnalysedPiece]) -> None:
    """Write a batch of pieces."""
    header = {
        "pieces": [[*_tuple(one.piece)] for one in batch],
        "lengths": [len(one.codes) for one in batch],
        "spelled": [one.spelled for one in batch],
    }
    codes = b"".join(one.codes.tobytes() for one in batch)
    vectors = b"".join(one.vector.astype(np.float16).tobytes() for one in batch if one.vector is not None)
    _write(out, header, codes, vectors)


def write_kind(out: BinaryIO, kind: str, total: int) -> None:
    """Write the kind of the file, and how many pieces will come."""
    _write(out, {"kind": kind, "total": total})


def write_end(out: BinaryIO) -> None:
    """Write that all pieces have been sent."""
    _write(out, {"end": True})


def write_error(out: BinaryIO, reason: str) -> None:
    """Write why the file cannot be read."""
    _write(out, {"error": reason})


def read_frame(header: bytes, codes: bytes, vectors: bytes) -> Frame:
    """Return the parts of a frame as values. Raises ValueError, KeyError or TypeError if the frame is not valid."""
    data: Any = orjson.loads(header)
    if "error" in data:
        return Frame([], error=str(data["error"]))
    if "kind" in data:
        return Frame([], str(data["kind"]), int(data["total"]))
    if "end" in data:
        return Frame([], end=True)
    numbers = np.frombuffer(codes, dtype=np.uint32)
    ends = np.cumsum(data["lengths"])
    count = len(data["pieces"])
    if not len(ends) == len(data["spelled"]) == count or (count and ends[-1] != len(numbers)):
        raise ValueError("lengths do not agree")
    found_vectors: Sequence[Vectors | None] = [None] * count
    if vectors:
        found_vectors = list(np.frombuffer(vectors, dtype=np.float16).astype(np.float32).reshape(count, -1))
    found = []
    for at, (text, heading, page, start, end) in enumerate(data["pieces"]):
        piece = Piece(str(text), str(heading), int(page) if page is not None else None, int(start), int(end))
        own = numbers[int(ends[at]) - int(data["lengths"][at]) : int(ends[at])]
        found.append(AnalysedPiece(piece, own, tuple(map(str, data["spelled"][at])), found_vectors[at]))
    return Frame(found)


def _tuple(piece: Piece) -> tuple[str, str, int | None, int, int]:
    return piece.text, piece.heading, piece.page, piece.start, piece.end


def _write(out: BinaryIO, header: object, codes: bytes = b"", vectors: bytes = b"") -> None:
    said = json.dumps(header, ensure_ascii=True).encode()
    out.write(LENGTHS.pack(len(said), len(codes), len(vectors)) + said + codes + vectors)
    out.flush()
