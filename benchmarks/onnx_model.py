"""Converts a BERT sentence model from `safetensors` to a folder for `onnx:FOLDER`, without its training framework.

`python -m benchmarks.onnx_model FROM TO`: FROM contains `model.safetensors`, `config.json` and `tokenizer.json`.
"""

import argparse
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 20
"""The first opset with Gelu."""
_KINDS = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
Tensors = dict[str, NDArray[Any]]


def tensors(file: Path) -> Tensors:
    """Return the arrays of a safetensors file: eight bytes of length, a JSON header, the bytes of all arrays."""
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    found = {}
    for name, about in header.items():
        if name != "__metadata__":
            first, last = (8 + length + at for at in about["data_offsets"])
            flat = np.frombuffer(data[first:last], dtype=_KINDS[about["dtype"]])
            found[name] = flat.reshape(about["shape"])
    return found


class _Graph:
    """The nodes and constants of a graph. Each method adds one and returns the name of its output."""

    def __init__(self, weights: Tensors) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._weights = weights

    def make(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node."""
        name = f"{kind}-{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        """Add a number or an array."""
        name = f"constant-{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def weight(self, name: str) -> str:
        """Add an array of the model, in float32."""
        return self.constant(self._weights[name].astype(np.float32), np.float32)

    def linear(self, value: str, name: str) -> str:
        """Add a linear layer: `value` times the transposed matrix of the layer, plus its bias."""
        matrix = self.constant(self._weights[f"{name}.weight"].astype(np.float32).T, np.float32)
        return self.make("Add", self.make("MatMul", value, matrix), self.weight(f"{name}.bias"))

    def normalised(self, value: str, name: str, epsilon: float) -> str:
        """Add a layer norm over the last axis."""
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.make("LayerNormalization", value, scale, bias, axis=-1, epsilon=epsilon)


def bert(weights: Tensors, config: dict[str, Any]) -> onnx.ModelProto:
    """Return the encoder: token ids, mask and types, each (texts, tokens), to states (texts, tokens, dimension)."""
    graph = _Graph({name.removeprefix("bert."): array for name, array in weights.items()})
    heads, width, epsilon = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]
    split = graph.constant([0, 0, heads, width // heads])
    whole = graph.constant([0, 0, width])
    one, last = graph.constant([1]), graph.constant([1, 2])

    length = graph.make("Slice", graph.make("Shape", "input_ids"), one, graph.constant([2]))
    places = graph.make("Slice", graph.weight("embeddings.position_embeddings.weight"), graph.constant([0]), length)
    state = graph.make("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    kinds = graph.make("Gather", graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    state = graph.make("Add", graph.make("Add", state, kinds), places)
    state = graph.normalised(state, "embeddings.LayerNorm", epsilon)

    counted = graph.make("Unsqueeze", graph.make("Cast", "attention_mask", to=TensorProto.FLOAT), last)
    left_out = graph.make("Sub", graph.constant(1.0, np.float32), counted)
    mask = graph.make("Mul", left_out, graph.constant(-1e9, np.float32))
    scale = graph.constant((width // heads) ** -0.5, np.float32)

    def by_head(value: str, order: list[int]) -> str:
        return graph.make("Transpose", graph.make("Reshape", value, split), perm=order)

    for at in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{at}"
        query = by_head(graph.linear(state, f"{layer}.attention.self.query"), [0, 2, 1, 3])
        key = by_head(graph.linear(state, f"{layer}.attention.self.key"), [0, 2, 3, 1])
        value = by_head(graph.linear(state, f"{layer}.attention.self.value"), [0, 2, 1, 3])
        near = graph.make("Add", graph.make("Mul", graph.make("MatMul", query, key), scale), mask)
        seen = graph.make("MatMul", graph.make("Softmax", near, axis=-1), value)
        joined = graph.make("Reshape", graph.make("Transpose", seen, perm=[0, 2, 1, 3]), whole)
        said = graph.linear(joined, f"{layer}.attention.output.dense")
        state = graph.normalised(graph.make("Add", said, state), f"{layer}.attention.output.LayerNorm", epsilon)
        wide = graph.make("Gelu", graph.linear(state, f"{layer}.intermediate.dense"))
        said = graph.linear(wide, f"{layer}.output.dense")
        state = graph.normalised(graph.make("Add", said, state), f"{layer}.output.LayerNorm", epsilon)

    shape = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info(state, TensorProto.FLOAT, [*shape, width])
    whole_graph = helper.make_graph(graph.nodes, "bert", inputs, [output], graph.constants)
    model = helper.make_model(whole_graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Convert the folder that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_model", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    config = json.loads((arguments.source / "config.json").read_text(encoding="utf-8"))
    arguments.target.mkdir(parents=True, exist_ok=True)
    onnx.save(bert(tensors(arguments.source / "model.safetensors"), config), arguments.target / "model.onnx")
    shutil.copyfile(arguments.source / "tokenizer.json", arguments.target / "tokenizer.json")


if __name__ == "__main__":
    main()
