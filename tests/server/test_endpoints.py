"""The four shipped endpoints over a real socket, with the embedded model."""

from pathlib import Path

import pytest

from tests.support.serving import serving
from tests.support.wire import read_stream

RAG, AUDIO, HANGUP = "/rag/chat/completions", "/audio/chat/completions", "/hangup/chat/completions"


@pytest.mark.parametrize(
    ("question", "held"),
    [("Can I bring my dog?", "15 euros a night"), ("游泳池几点开放？", "早上八点到晚上九点")],
)
async def test_rag_quotes_the_handbook(tmp_path: Path, question: str, held: str) -> None:
    async with serving(tmp_path) as served:
        answer = read_stream((await served.ask(question, RAG)).body)
    assert held in answer.text
    assert answer.finish == "stop"


async def test_chat_says_plainly_that_no_model_is_configured(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        english = read_stream((await served.ask("Tell me a joke")).body)
        chinese = read_stream((await served.ask("讲个笑话")).body)
    assert "OPENAI_API_KEY" in english.text
    assert "OPENAI_API_KEY" in chinese.text and "没有配置" in chinese.text


@pytest.mark.parametrize(("question", "held"), [("When is check-in?", "3 p.m."), ("几点可以入住？", "下午三点")])
@pytest.mark.long
async def test_audio_sends_a_transcript_then_whole_frames(tmp_path: Path, question: str, held: str) -> None:
    async with serving(tmp_path) as served:
        answer = read_stream((await served.ask(question, AUDIO)).body)
    assert held in answer.transcript
    assert answer.text == ""
    assert {len(frame) for frame in answer.audio} == {1280}
    assert len(answer.audio_ids) == 1
    kinds = [
        "transcript" if "transcript" in chunk["choices"][0]["delta"].get("audio", {}) else "" for chunk in answer.chunks
    ]
    assert kinds[1] == "transcript"
    assert answer.finish == "stop"


async def test_the_audio_endpoint_sends_text_when_only_text_is_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = read_stream((await served.ask("When is check-in?", AUDIO, modalities=["text"])).body)
    assert "3 p.m." in answer.text
    assert not answer.audio and not answer.transcript


@pytest.mark.parametrize(("question", "held"), [("Thanks, bye!", "Goodbye"), ("好的，再见", "再见")])
async def test_hangup_says_goodbye_then_hangs_up_once(tmp_path: Path, question: str, held: str) -> None:
    async with serving(tmp_path) as served:
        answer = read_stream((await served.ask(question, HANGUP)).body)
    assert held in answer.text
    assert [(call["name"], call["arguments"]) for call in answer.tool_calls] == [("hangup", "{}")]
    assert answer.finish == "tool_calls"


async def test_hangup_answers_a_question_and_stays(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = read_stream((await served.ask("How much is parking?", HANGUP)).body)
    assert "18 euros" in answer.text
    assert not answer.tool_calls
