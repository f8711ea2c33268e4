"""Embedders and rerankers over real sockets: order is kept, busy servers are asked again, absent ones do no harm."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import SecretStr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from dialgraph.meaning import EmbedderAddress, RerankerAddress
from dialgraph.services.errors import UnknownServiceError
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from knowledge.document import Document
from knowledge.embedders.embed import Embedder, EmbedError, open_embedder
from knowledge.embedders.rerank import open_reranker
from tests.support.stores import opened
from tests.support.upstream import Action, upstream

REFUSED = "http://127.0.0.1:9/v1"
ANIMALS = [
    Document("a.md", "Lions sleep at noon."),
    Document("b.md", "Zebras graze."),
    Document("c.md", "Hounds bark."),
]


def answer(body: object, status: int = 200, **headers: str) -> list[Action]:
    """Return a whole reply of a server."""
    return [("status", status, {"content-type": "application/json", **headers}, json.dumps(body).encode())]


def vectors(*found: Sequence[float], backwards: bool = False) -> list[Action]:
    """Return a reply with these embeddings, one for each text."""
    data = [{"index": at, "embedding": list(vector)} for at, vector in enumerate(found)]
    return answer({"data": data[::-1] if backwards else data})


def http(url: str, **fields: Any) -> Embedder:
    """Open the embedder of a server."""
    return open_embedder("e", EmbedderAddress(url, model="m", api_key=SecretStr("key-0123456789"), **fields))


async def test_texts_keep_their_order_and_a_question_is_embedded_once(tmp_path: Path) -> None:
    async with upstream(vectors([3, 4], [0, 2], backwards=True), vectors([1, 0])) as up:
        embedder = http(up.url)
        made = await embedder.passages(["one", "two"])
        assert np.allclose(made, np.array([[0.6, 0.8], [0, 1]])) and embedder.dimension == 2
        for _ in range(3):
            assert (await embedder.question("q")).tolist() == [1.0, 0.0]
        await embedder.aclose()
    assert [body["input"] for body in up.bodies] == [["one", "two"], ["q"]]
    assert up.bodies[0]["model"] == "m"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    busy = answer({"error": "secret of the server"}, status, **{"retry-after": "0.01"})
    async with upstream(busy, busy, vectors([1, 0])) as up:
        embedder = http(up.url)
        assert (await embedder.passages(["one"])).shape == (1, 2)
        await embedder.aclose()
    assert len(up.bodies) == 3


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (answer({"error": "key-0123456789"}, 401), "embedder 'e': the server answered with 401"),
        (answer({"error": "x"}, 302, location="http://127.0.0.1:9/"), "embedder 'e': the server answered with 302"),
        (answer({"data": []}), "embedder 'e': the server returned 0 vectors for 1 texts."),
        (vectors([1, 0], [0, 1]), "embedder 'e': the server returned 2 vectors for 1 texts."),
        (
            answer({"data": [{"index": 0, "embedding": ["x"]}]}),
            "embedder 'e': the server's answer holds no embeddings.",
        ),
        ([("status", 200, {}, b"<html>")], "embedder 'e': the server's answer is not valid JSON"),
    ],
    ids=["key", "redirect", "nothing", "too many", "no numbers", "no JSON"],
)
async def test_a_bad_reply_is_reported_without_the_servers_words(script: list[Action], sentence: str) -> None:
    async with upstream(script) as up:
        embedder = http(up.url)
        with pytest.raises(EmbedError) as error:
            await embedder.question("q")
        await embedder.aclose()
    assert str(error.value).startswith(sentence) and "key-0123456789" not in str(error.value)


async def test_search_goes_on_by_words_while_the_embedder_is_away(tmp_path: Path) -> None:
    made = vectors([1, 0, 0], [0, 1, 0], [0, 0, 1])
    async with upstream(made, vectors([0, 0, 1]), answer({}, 500)) as up:
        async with opened(tmp_path, embedder=http(up.url)) as store:
            await store.add(ANIMALS)
            assert (await store.search("a dog", 1))[0].text == "Hounds bark.", "the vectors were not used"
            assert (await store.search("lions", 1))[0].text == "Lions sleep at noon."
    async with opened(tmp_path, embedder=http(REFUSED)) as store:
        assert [passage.text for passage in await store.search("zebras", 1)] == ["Zebras graze."]
        with pytest.raises(EmbedError, match="embedder 'e': the server cannot be reached"):
            await store.add([Document("d.md", "Gnus wander.")])
        assert (await store.stats()).documents == 3 and await store.verify() == []


async def test_an_unchanged_text_is_not_embedded_again(tmp_path: Path) -> None:
    async with upstream(vectors([1, 0], [0, 1]), vectors([1, 1])) as up:
        async with opened(tmp_path, embedder=http(up.url)) as store:
            await store.add([Document("a.md", "# A\n\nLions sleep.\n\n# B\n\nZebras graze.")])
            await store.add([Document("a.md", "# A\n\nLions sleep.\n\n# B\n\nZebras run.")])
    assert [len(body["input"]) for body in up.bodies] == [2, 1], "an unchanged piece was embedded again"


async def test_a_reranker_sorts_the_results_and_may_be_away(tmp_path: Path) -> None:
    scores = answer({"results": [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}]})
    two = [Document("a.md", "Lions sleep at noon."), Document("b.md", "Lions sleep, lions sleep.")]
    async with upstream(scores, answer({"results": []}), answer({}, 500)) as up:
        reranker = open_reranker("r", RerankerAddress(up.url, "judge"))
        async with opened(tmp_path, reranker=reranker) as store:
            await store.add(two)
            plain = await store.search("Where do lions sleep?", 2, min_score=0.0)
            order = [passage.text for passage in plain]
            assert [passage.score for passage in plain] == [0.9, 0.1]
            for _ in range(2):
                assert {passage.text for passage in await store.search("Where do lions sleep?", 2)} == set(order)
    assert up.bodies[0]["query"] == "Where do lions sleep?" and up.bodies[0]["model"] == "judge"


async def test_langchain_embeds_without_downloading_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(vectors([3, 4]), vectors([0, 1])) as up:
        monkeypatch.setenv("OPENAI_BASE_URL", up.url)
        embedder = open_embedder("l", EmbedderAddress("langchain:openai", "m", SecretStr("key")))
        assert np.allclose(await embedder.passages(["one"]), [[0.6, 0.8]])
        assert (await embedder.question("two")).tolist() == [0.0, 1.0]
        await embedder.aclose()
    assert up.bodies[0]["input"] == ["one"], "texts were sent as the tokens of a tokeniser that must be downloaded"


def model_folder(folder: Path) -> Path:
    """Write a tiny model and return its folder. `hounds` and `dogs` have the same vector, `lions` has another."""
    words = {"[PAD]": 0, "[UNK]": 1, "lions": 2, "hounds": 3, "dogs": 4}
    table = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["states"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, ["batch", "length", 3])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


async def test_a_local_model_finds_by_meaning(tmp_path: Path) -> None:
    embedder = open_embedder("o", EmbedderAddress(f"onnx:{model_folder(tmp_path)}"))
    assert embedder.dimension == 3 and embedder.name.startswith("onnx:")
    expected = np.array([[1, 0, 0], [0.7071, 0.7071, 0]])
    assert np.allclose(await embedder.passages(["lions", "lions hounds"]), expected, atol=1e-3)
    async with opened(tmp_path, embedder=embedder) as store:
        await store.add([Document("a.md", "lions"), Document("b.md", "hounds")])
        assert (await store.search("dogs", 1))[0].text == "hounds"


def test_a_wrong_address_is_refused_with_a_reason(tmp_path: Path) -> None:
    for address, sentence in (
        (
            EmbedderAddress("ftp://x"),
            "embedder 'e': no engine for 'ftp'. Accepted: hashing, http, https, langchain, onnx.",
        ),
        (
            EmbedderAddress("https://x/v1"),
            "embedder 'e': `model` is missing. Set it to the server's name for the model.",
        ),
        (EmbedderAddress("langchain:cohere"), "embedder 'e': no engine for 'langchain:cohere'."),
        (EmbedderAddress(f"onnx:{tmp_path}"), "embedder 'e': its folder does not contain model.onnx."),
    ):
        with pytest.raises(ValueError, match="embedder 'e'") as error:
            open_embedder("e", address)
        assert str(error.value).startswith(sentence)
    with pytest.raises(ValueError, match="reranker 'r': 'x' is not a valid address"):
        open_reranker("r", RerankerAddress("x"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("faiss:?embedder=nope", "No embedder 'nope' in the settings. Accepted: 'main';"),
        ("faiss:?reranker=nope", "No reranker 'nope' in the settings. Accepted: none yet;"),
        ("faiss:?x=1", "store 'main': unknown option 'x'. Accepted: embedder, reranker."),
        ("redis:", "store 'main': no engine for 'redis'. Accepted: `faiss:`, `langchain:`, `pgvector:`."),
        ("faiss:/srv/x", "store 'main': 'faiss:/srv/x' has a host or a path. Accepted: only `faiss:`."),
        ("http://[bad", "store 'main': the address 'http://[bad' is not a valid URL."),
        ("pgvector:", "store 'main': `pgvector:` needs `database_url` to be a `postgresql://…` address."),
    ],
)
def test_a_wrong_store_is_refused_with_a_reason(tmp_path: Path, url: str, sentence: str) -> None:
    services = OpenServices(GraphSettings(data_dir=tmp_path, stores={"main": url}))
    with pytest.raises(UnknownServiceError) as error:
        services.store("main")
    assert str(error.value).startswith(sentence)
    asyncio.run(services.aclose())
