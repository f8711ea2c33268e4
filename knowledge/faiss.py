"""The embedded store: one folder a store, written as a new generation beside the old one and switched over at once.

`manifest.json` names the generation's two files with their checksums. The passages are the truth; the FAISS file is a
cache of their vectors and is built again when in doubt. Adding to a FAISS index while it is searched crashes the
process, so a published index is never changed.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import faiss
import numpy as np
import orjson
from filelock import FileLock

from knowledge.documents import Piece, pieces, read_documents
from knowledge.embed import Embedder, HashingEmbedder, Vectors
from knowledge.store import Document, Passage, StoreError

MIN_SCORE = 0.12
"""Below this a passage shares little more than common words with the question."""
_INLINE_NUMBERS = 2_000_000
"""Numbers to multiply (0.3 ms) above which a search leaves the event loop."""


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    rows: tuple[tuple[str, Piece], ...]
    index: faiss.IndexFlatIP
    weights: Vectors


class FaissStore:
    """See the module. Another process may write: each search looks at the manifest."""

    def __init__(self, name: str, folder: Path, sample: Path | None = None, embedder: Embedder | None = None) -> None:
        faiss.omp_set_num_threads(1)
        self._name = name
        self._folder = folder
        self._sample = sample
        self._embedder: Embedder = embedder or HashingEmbedder()
        self._stamp: tuple[int, int] | None = None
        self._current: _Generation | None = None

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = lambda done: None) -> int:
        """See the port."""
        return await asyncio.to_thread(self._add, documents, progress)

    async def search(self, question: str, top_k: int) -> list[Passage]:
        """See the port."""
        generation = await self._load()
        count = len(generation.rows)
        if not count:
            return []
        vector, perfect = self._embedder.question(question, generation.weights)
        if perfect <= 0:
            return []
        queries, most = vector[np.newaxis], min(top_k, count)
        if count * self._embedder.dimension <= _INLINE_NUMBERS:
            scores, rows = generation.index.search(queries, most)
        else:
            scores, rows = await asyncio.to_thread(lambda: generation.index.search(queries, most))
        found = []
        for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
            if row >= 0 and score / perfect >= MIN_SCORE:
                document, piece = generation.rows[row]
                found.append(Passage(piece.text, document, piece.heading, min(1.0, score / perfect)))
        return found

    async def aclose(self) -> None:
        """Forget the index; the files stay."""
        self._current = self._stamp = None

    async def _load(self) -> _Generation:
        """The newest generation; the one in memory as long as the manifest is the one it was read from."""
        stamp = self._stamp_of_manifest()
        if stamp is None and self._sample is not None:
            await self.add(await asyncio.to_thread(read_documents, [self._sample]))
            stamp = self._stamp_of_manifest()
        if self._current is None or stamp != self._stamp:
            self._current = await asyncio.to_thread(self._read)
            self._stamp = stamp
        return self._current

    def _stamp_of_manifest(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._folder / "manifest.json")
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _build(self, number: int, rows: tuple[tuple[str, Piece], ...], vectors: Vectors | None = None) -> _Generation:
        if vectors is None:
            vectors = self._embedder.passages([_embedded(piece) for _, piece in rows])
        index = faiss.IndexFlatIP(self._embedder.dimension)
        index.add(vectors)
        return _Generation(number, rows, index, self._embedder.weights(vectors))

    def _add(self, documents: Sequence[Document], progress: Callable[[int], None]) -> int:
        """One writer at a time, of all processes: what another has just written is read before it is added to."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "write.lock"):
            return self._write(self._read(), documents, progress)

    def _write(self, old: _Generation, documents: Sequence[Document], progress: Callable[[int], None]) -> int:
        names = {document.name for document in documents}
        kept = [row for row, (name, _) in enumerate(old.rows) if name not in names]
        rows = [old.rows[row] for row in kept]
        vectors = [old.index.reconstruct_n(0, len(old.rows))[kept]] if kept else []
        for done, document in enumerate(documents, 1):
            new = list(pieces(document.text))
            if not new:
                raise StoreError(f"store {self._name!r}: document {document.name!r} holds no text.")
            rows += [(document.name, piece) for piece in new]
            vectors.append(self._embedder.passages([_embedded(piece) for piece in new]))
            progress(done)
        together = np.concatenate(vectors) if vectors else None
        generation = self._build(old.number + 1, tuple(rows), together)
        self._publish(generation)
        return sum(name in names for name, _ in rows)

    def _publish(self, generation: _Generation) -> None:
        """Both files first, then the manifest that names them: a crash leaves the old generation or the new one."""
        files = {
            f"passages-{generation.number:06}.jsonl": b"".join(
                orjson.dumps({"document": name, "heading": piece.heading, "text": piece.text}) + b"\n"
                for name, piece in generation.rows
            ),
            f"vectors-{generation.number:06}.faiss": faiss.serialize_index(generation.index).tobytes(),
        }
        manifest = {
            "generation": generation.number,
            "embedder": self._embedder.name,
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        }
        for name, data in files.items():
            _write_whole(self._folder / name, data)
        _write_whole(self._folder / "manifest.json", orjson.dumps(manifest))
        for file in [*self._folder.glob("passages-*"), *self._folder.glob("vectors-*")]:
            # One generation is left for a process that has just read the old manifest.
            if int(file.stem.rpartition("-")[2]) < generation.number - 1:
                file.unlink(missing_ok=True)

    def _read(self) -> _Generation:
        try:
            manifest = orjson.loads((self._folder / "manifest.json").read_bytes())
        except FileNotFoundError:
            return self._build(0, ())
        except (OSError, ValueError) as error:
            raise StoreError(f"store {self._name!r}: its manifest cannot be read.") from error
        try:
            number, sums = int(manifest["generation"]), dict(manifest["sha256"])
            passages, vectors = sorted(sums)
            data = (self._folder / passages).read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"store {self._name!r}: its passages cannot be read.") from error
        if hashlib.sha256(data).hexdigest() != sums[passages]:
            raise StoreError(f"store {self._name!r}: its passages are damaged. Index the documents again.")
        rows = tuple(
            (row["document"], Piece(row["text"], row["heading"])) for row in map(orjson.loads, data.splitlines())
        )
        try:
            cache = (self._folder / vectors).read_bytes()
        except OSError:
            cache = b""
        if manifest["embedder"] != self._embedder.name or hashlib.sha256(cache).hexdigest() != sums[vectors]:
            return self._build(number, rows)
        index = faiss.deserialize_index(np.frombuffer(cache, dtype=np.uint8))
        return self._build(number, rows, index.reconstruct_n(0, index.ntotal))


def _embedded(piece: Piece) -> str:
    return f"{piece.heading}\n{piece.text}"


def _write_whole(path: Path, data: bytes) -> None:
    """The file is there with all its bytes, or it is not there."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
