"""Any server with an OpenAI-style `/audio/transcriptions`: takes a form with an audio file, returns JSON."""

from contextlib import aclosing
from typing import Final

import orjson

from dialgraph.speech.http import SpeechClient, with_file
from dialgraph.speech.port import VoiceError
from dialgraph.speech.transcriber import TranscriberAddress

_LONGEST_ANSWER: Final = 2**20
_MODEL: Final = "gpt-4o-mini-transcribe"


class OpenAITranscriber:
    """A transcriber at `https://…/v1`, with the model's name and a key."""

    def __init__(self, name: str, address: TranscriberAddress) -> None:
        self._what = f"The transcriber {name!r}"
        self._model = address.model or _MODEL
        self._language = address.language
        url = address.url.rstrip("/").removesuffix("/audio/transcriptions")
        self._client = SpeechClient(self._what, url, address.api_key.get_secret_value(), address.deadlines)

    async def transcribe(self, sound: bytes, form: str) -> str:
        """Return the words that the server understood."""
        fields = {"model": self._model, "response_format": "json"}
        if self._language:
            fields["language"] = self._language
        body = with_file(fields, sound, form)
        said = bytearray()
        async with (
            self._client.post("/audio/transcriptions", data=body) as response,
            aclosing(self._client.parts(response)) as parts,
        ):
            async for part in parts:
                said += part
                if len(said) > _LONGEST_ANSWER:
                    raise VoiceError("malformed", f"{self._what} sent a reply of over {_LONGEST_ANSWER} bytes.")
        try:
            text = orjson.loads(said)["text"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise VoiceError("malformed", f"{self._what} sent no text.")
        return text.strip()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
