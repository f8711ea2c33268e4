"""The node `transcribe`: turns the caller's speech into text, for models that accept only text."""

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from dialgraph import State, Turn, Update, node
from dialgraph.environment import in_thread
from dialgraph.language.words import is_chinese
from dialgraph.models.history.text import text_of
from dialgraph.models.port import Message
from dialgraph.speech.port import VoiceError
from dialgraph.speech.transcriber import Transcriber
from dialgraph.speech.wav import header

_EARLIER = {False: "(spoken earlier)", True: "（之前说的话）"}
_NOTHING = {False: "(nothing was understood)", True: "（没有听清）"}
_PCM16_RATE = 24_000
"""The sample rate of OpenAI's `pcm16` input. This format has no header, so the rate is fixed."""


@node(uses={"transcriber": "transcriber"})
async def transcribe(
    state: State, turn: Turn, *, transcriber: str = "main", most: Annotated[int, Field(ge=1, le=32)] = 4
) -> Update:
    """Replace the caller's `input_audio` parts with their words, for all later steps.

    A request without speech is not changed, and the transcriber is not asked.

    - `transcriber`: the name of a transcriber in the settings.
    - `most`: how many pieces of speech to transcribe, counted from the end. Earlier ones become `(spoken earlier)`.
    """
    spoken = [part for message in turn.messages for part in _speech(message)][-most:]
    if not spoken:
        return None
    sounds = await in_thread(lambda: [_sound(part) for part in spoken])  # megabytes of base64
    texts = await _all(turn.services.transcriber(transcriber), sounds)
    words = {id(part): text for part, text in zip(spoken, texts, strict=True)}
    turn.understand([_in_words(message, words) for message in turn.messages])
    return None


async def _all(transcriber: Transcriber, sounds: Sequence[tuple[bytes, str]]) -> list[str]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(transcriber.transcribe(*sound)) for sound in sounds]
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]


def _speech(message: Message) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if not isinstance(content, list):
        return []
    return [part for part in content if isinstance(part, Mapping) and part.get("type") == "input_audio"]


def _sound(part: Mapping[str, Any]) -> tuple[bytes, str]:
    given = part.get("input_audio")
    data, form = (given.get("data"), given.get("format")) if isinstance(given, Mapping) else (None, None)
    try:
        sound = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        sound = b""
    if not sound:
        raise VoiceError("rejected", "`input_audio.data` must be the sound in base64.")
    if not isinstance(form, str) or not form.isalnum() or len(form) > 8:
        raise VoiceError("rejected", "`input_audio.format` must be a sound format, such as `wav` or `mp3`.")
    if form == "pcm16":
        return header(_PCM16_RATE, len(sound)) + sound, "wav"
    return sound, form


def _in_words(message: Message, words: Mapping[int, str]) -> Message:
    if not _speech(message):
        return message
    content = message["content"]
    chinese = is_chinese(text_of(content) + " ".join(words.values()))
    speech = {id(part) for part in _speech(message)}
    parts = [
        {"type": "text", "text": words.get(id(part), _EARLIER[chinese]) or _NOTHING[chinese]}
        if id(part) in speech
        else part
        for part in (content if isinstance(content, list) else ())
    ]
    return {**message, "content": parts}
