"""Finds the passages near a question in meaning: an immutable FAISS segment, and a small flat rest next to it.

The rows in the database are the truth. The vectors here may belong to passages that are deleted or not visible yet, so
a search checks its hits in the rows. To add to a FAISS index during a search crashes the process. So a new segment is
built separately and then replaces the old one.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import faiss as faiss_untyped
import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge.embedders.embed import Vectors

faiss: Any = faiss_untyped  # its type stubs are incomplete
faiss.omp_set_num_threads(1)  # a search is short: threads would cost more than they save

Ids = NDArray[np.int64]

FLAT_UP_TO = 20_000
"""Up to this many vectors are compared one by one, in half precision. Beyond that a graph is searched (HNSW32)."""
REST = 2_000
"""How many vectors may be outside the segment before a new one is built."""
_NEIGHBOURS = 32
_EFFORT = 64
_EFFORT_WHEN_BUILDING = 80


@dataclass(frozen=True, slots=True)
class Segment:
    """Vectors by passage id. Never changed."""

    index: Any
    """A `faiss.IndexIDMap`."""
    last: int
    """The highest id when the segment was built."""

    @property
    def count(self) -> int:
        """The number of vectors."""
        return int(self.index.ntotal)

    def vectors(self) -> Vectors:
        """Return the vectors of a flat segment, in the order of its ids."""
        vectors: Vectors = faiss.downcast_index(self.index.index).reconstruct_n(0, self.count)
        return vectors

    def search(self, question: Vectors, most: int, allowed: Ids | None) -> tuple[Ids, Vectors]:
        """Return the nearest ids and their similarity, best first; only from `allowed`, if given."""
        selector = faiss.IDSelectorBatch(allowed) if allowed is not None else None
        graph = self.count > FLAT_UP_TO
        kind = faiss.SearchParametersHNSW if graph else faiss.SearchParameters
        parameters = kind(sel=selector, efSearch=max(_EFFORT, most)) if graph else kind(sel=selector)
        near, ids = self.index.search(question[np.newaxis], min(most, self.count), params=parameters)
        there = ids[0] >= 0
        return ids[0][there], near[0][there]


def build(ids: Ids, vectors: Vectors) -> Segment:
    """Return a segment of these vectors. Blocks: a graph takes about half a millisecond for each vector."""
    dimension = vectors.shape[1]
    if len(ids) <= FLAT_UP_TO:
        plain = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    else:
        plain = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        plain.hnsw.efConstruction = _EFFORT_WHEN_BUILDING
        plain.hnsw.efSearch = _EFFORT
        plain.train(vectors)
    index = faiss.IndexIDMap(plain)
    index.add_with_ids(vectors, ids)
    return Segment(index, int(ids.max()) if len(ids) else 0)


class SegmentFile:
    """The segment on disk: a cache with a checksum, discarded when in doubt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, segment: Segment, embedder: str) -> None:
        """Write both files completely: first the index, then the manifest that names it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        data = faiss.serialize_index(segment.index).tobytes()
        name = f"vectors-{segment.last}.faiss"
        manifest = {
            "file": name, "sha256": hashlib.sha256(data).hexdigest(), "last": segment.last, "embedder": embedder,
        }  # fmt: skip
        _write_whole(self._folder / name, data)
        _write_whole(self._folder / "vectors.json", orjson.dumps(manifest))
        for file in self._folder.glob("vectors-*.faiss"):
            if file.name != name:
                file.unlink(missing_ok=True)

    def read(self, embedder: str, dimension: int) -> Segment | None:
        """Return the segment; None if there is none, or if it is damaged or from another embedder."""
        try:
            manifest = orjson.loads((self._folder / "vectors.json").read_bytes())
            data = (self._folder / Path(manifest["file"]).name).read_bytes()
            if manifest["embedder"] != embedder or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
                return None
            segment = Segment(faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)), int(manifest["last"]))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: not an index
            return None
        return segment if dimension in (0, segment.index.d) else None

    def remove(self) -> None:
        """Delete the files."""
        for file in [*self._folder.glob("vectors-*.faiss"), self._folder / "vectors.json"]:
            file.unlink(missing_ok=True)


def _write_whole(path: Path, data: bytes) -> None:
    """Write the file in one step: it never exists with only a part of its bytes."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@dataclass(frozen=True)
class Nearby:
    """All vectors of a store that one process knows: a segment and the rest.

    It is a value: to add vectors makes a new one.
    """

    ids: Ids
    """The ids outside the segment, in ascending order."""
    vectors: Vectors
    last: int = 0
    """The highest passage id that is known."""
    segment: Segment | None = None

    @classmethod
    def of(cls, segment: Segment | None, dimension: int) -> "Nearby":
        """Return the value of a segment without a rest."""
        last = segment.last if segment else 0
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, dimension), dtype=np.float32), last, segment)

    @property
    def count(self) -> int:
        """The number of vectors."""
        return (self.segment.count if self.segment else 0) + len(self.ids)

    def more(self, ids: Ids, vectors: Vectors) -> "Nearby":
        """Return a value with these vectors added. Their ids must be above all others."""
        if not len(ids):
            return self
        # The dimension is known only after the embedder's first vector.
        known = self.vectors if len(self.ids) else vectors[:0]
        together = np.concatenate([self.ids, ids]), np.concatenate([known, vectors])
        return Nearby(*together, int(ids[-1]), self.segment)

    def built(self) -> Segment:
        """Return a segment of all vectors, those of the old segment and the rest. Blocks: see `build`."""
        if self.segment is None or self.segment.count <= FLAT_UP_TO:
            return build(*self.everything())
        index = faiss.clone_index(self.segment.index)
        index.add_with_ids(self.vectors, self.ids)
        return Segment(index, self.last)

    def everything(self) -> tuple[Ids, Vectors]:
        """Return all ids and vectors. Only for a flat segment."""
        if self.segment is None or not self.segment.count:
            return self.ids, self.vectors
        ids: Ids = faiss.vector_to_array(self.segment.index.id_map)
        return np.concatenate([ids, self.ids]), np.concatenate([self.segment.vectors(), self.vectors])

    def with_segment(self, segment: Segment) -> "Nearby":
        """Return a value with a new segment. Vectors that came after it was built stay in the rest."""
        later = self.ids > segment.last
        return Nearby(self.ids[later], self.vectors[later], max(self.last, segment.last), segment)

    def search(self, question: Vectors, most: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Return the nearest passages and their similarity, best first."""
        ids, vectors = self.ids, self.vectors
        if allowed is not None and len(ids):
            kept = np.isin(ids, allowed)
            ids, vectors = ids[kept], vectors[kept]
        near = vectors @ question if len(ids) else np.zeros(0, dtype=np.float32)
        if self.segment and self.segment.count:
            more_ids, more = self.segment.search(question, most, allowed)
            ids, near = np.concatenate([ids, more_ids]), np.concatenate([near, more])
        best = np.argsort(-near, kind="stable")[:most]
        return ids[best], near[best]
