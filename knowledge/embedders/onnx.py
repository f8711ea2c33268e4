"""A local sentence model: a folder with `model.onnx` and `tokenizer.json`, run by onnxruntime. Needs the extra `onnx`.

A vector is the mean of the last hidden states over the tokens that are not padding, scaled to unit length. The models
of sentence-transformers do the same.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dialgraph.environment import in_thread
from dialgraph.meaning import EmbedderAddress
from knowledge.embedders.embed import EmbedError, Vectors, of_unit_length

_BATCH = 16
_LONGEST = 256
"""The most tokens that are read of a text; the supported models were trained with this many."""


class OnnxEmbedder:
    """The engine of `onnx:FOLDER`. It has one thread: a question waits for at most one batch of sixteen texts."""

    proposes_up_to = 10**9
    from_units = ""

    def __init__(self, name: str, address: EmbedderAddress) -> None:
        parts = urlsplit(address.url)
        folder = Path(parts.path)
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ValueError(f"embedder {name!r} needs the extra `onnx`: pip install dialgraph[onnx].") from error
        for file in ("model.onnx", "tokenizer.json"):
            if not (folder / file).is_file():
                raise ValueError(f"embedder {name!r}: its folder does not contain {file}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_LONGEST)
        self._tokenizer.enable_padding()
        with open(folder / "model.onnx", "rb") as model:
            self.name = f"onnx:{hashlib.file_digest(model, 'sha256').hexdigest()[:16]}"
        self.counts, self.unrelated = address.weights()
        self._label = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx")
        self.dimension = int(self._embed(["a"]).shape[1])

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors, computed in batches of sixteen texts."""
        parts = [
            await in_thread(self._embed, texts[at : at + _BATCH], executor=self._thread)
            for at in range(0, len(texts), _BATCH)
        ]
        return np.concatenate(parts)

    async def question(self, text: str) -> Vectors:
        """Return the question's vector."""
        vector: Vectors = (await in_thread(self._embed, [text], executor=self._thread))[0]
        return vector

    async def aclose(self) -> None:
        """Stop the thread."""
        await in_thread(self._thread.shutdown)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(list(texts))
        given = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
        }
        states = self._session.run(None, {name: given[name] for name in self._inputs if name in given})[0]
        if states.ndim == 3:
            mask = given["attention_mask"][:, :, np.newaxis].astype(np.float32)
            states = (states * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1e-9)
        if states.ndim != 2 or len(states) != len(texts):
            raise EmbedError(f"embedder {self._label!r}: the model's output has the unexpected shape {states.shape}.")
        return of_unit_length(states)
