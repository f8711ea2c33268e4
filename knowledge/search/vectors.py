"""Which passages are near a question in meaning: an immutable FAISS segment and a small flat rest beside the rows.

The rows are the truth. What is here may hold passages that are gone, or not yet live; who asks looks them up. Adding
to a FAISS index while it is searched crashes the process, so a segment is built aside and put in place at once.
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

faiss: Any = faiss_untyped  # its type stubs know half of it
faiss.omp_set_num_threads(1)  # a search is short: threads would cost more than they save

Ids = NDArray[np.int64]

FLAT_UP_TO = 20_000
"""Vectors that are compared one by one, in half precision; above it a graph finds the way (HNSW32)."""
REST = 2_000
"""Vectors that may lie beside the segment before another one is built."""
_NEIGHBOURS = 32
_EFFORT = 64
_EFFORT_WHEN_BUILDING = 80


@dataclass(frozen=True, slots=True)
class Segment:
    """Vectors by passage id, never changed."""

    index: Any
    """A `faiss.IndexIDMap`."""
    last: int
    """The highest id that was there when it was built."""

    @property
    def count(self) -> int:
        """How many vectors it holds."""
        return int(self.index.ntotal)

    def vectors(self) -> Vectors:
        """Those of a flat segment, in the order of its ids."""
        vectors: Vectors = faiss.downcast_index(self.index.index).reconstruct_n(0, self.count)
        return vectors

    def search(self, question: Vectors, most: int, allowed: Ids | None) -> tuple[Ids, Vectors]:
        """The nearest ones with their similarity, best first; only of `allowed` if given."""
        selector = faiss.IDSelectorBatch(allowed) if allowed is not None else None
        graph = self.count > FLAT_UP_TO
        kind = faiss.SearchParametersHNSW if graph else faiss.SearchParameters
        parameters = kind(sel=selector, efSearch=max(_EFFORT, most)) if graph else kind(sel=selector)
        near, ids = self.index.search(question[np.newaxis], min(most, self.count), params=parameters)
        there = ids[0] >= 0
        return ids[0][there], near[0][there]


def build(ids: Ids, vectors: Vectors) -> Segment:
    """A segment of these vectors. Blocks for a time that grows with them: about half a millisecond each in a graph."""
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
    """The segment on disk: a cache with a checksum, thrown away when in doubt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, segment: Segment, embedder: str) -> None:
        """Both files whole: first the index, then the manifest that names it."""
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
        """The segment; None if there is none, or if it is damaged or of another embedder."""
        try:
            manifest = orjson.loads((self._folder / "vectors.json").read_bytes())
            data = (self._folder / Path(manifest["file"]).name).read_bytes()
            if manifest["embedder"] != embedder or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
                return None
            segment = Segment(faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)), int(manifest["last"]))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: no index to FAISS
            return None
        return segment if dimension in (0, segment.index.d) else None

    def remove(self) -> None:
        """Forget it."""
        for file in [*self._folder.glob("vectors-*.faiss"), self._folder / "vectors.json"]:
            file.unlink(missing_ok=True)


def _write_whole(path: Path, data: bytes) -> None:
    """The file is there with all its bytes, or it is not there."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@dataclass(frozen=True)
class Nearby:
    """All vectors of a store as one process knows them: a segment and the rest. A value: growing makes another one."""

    ids: Ids
    """Those that are in no segment, in their order."""
    vectors: Vectors
    last: int = 0
    """The highest passage id that is known."""
    segment: Segment | None = None

    @classmethod
    def of(cls, segment: Segment | None, dimension: int) -> "Nearby":
        """What a segment alone knows."""
        last = segment.last if segment else 0
        return cls(np.zeros(0, dtype=np.int64), np.zeros((0, dimension), dtype=np.float32), last, segment)

    @property
    def count(self) -> int:
        """How many vectors are known."""
        return (self.segment.count if self.segment else 0) + len(self.ids)

    def more(self, ids: Ids, vectors: Vectors) -> "Nearby":
        """With these too; their ids are above all others."""
        if not len(ids):
            return self
        # An embedder tells its dimension with its first vector.
        known = self.vectors if len(self.ids) else vectors[:0]
        together = np.concatenate([self.ids, ids]), np.concatenate([known, vectors])
        return Nearby(*together, int(ids[-1]), self.segment)

    def built(self) -> Segment:
        """A segment that holds what this one and its rest hold. Blocks: see `build`."""
        if self.segment is None or self.segment.count <= FLAT_UP_TO:
            return build(*self.everything())
        index = faiss.clone_index(self.segment.index)
        index.add_with_ids(self.vectors, self.ids)
        return Segment(index, self.last)

    def everything(self) -> tuple[Ids, Vectors]:
        """All ids and vectors; only of a flat segment."""
        if self.segment is None or not self.segment.count:
            return self.ids, self.vectors
        ids: Ids = faiss.vector_to_array(self.segment.index.id_map)
        return np.concatenate([ids, self.ids]), np.concatenate([self.segment.vectors(), self.vectors])

    def with_segment(self, segment: Segment) -> "Nearby":
        """A segment that was built aside takes its place; what came since stays beside it."""
        later = self.ids > segment.last
        return Nearby(self.ids[later], self.vectors[later], max(self.last, segment.last), segment)

    def search(self, question: Vectors, most: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """The nearest passages and their similarity, best first."""
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
