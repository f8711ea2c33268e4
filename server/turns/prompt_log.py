"""Logs what the models of a turn are sent, if the settings ask for it."""

import logging

import orjson

from dialgraph.privacy.redaction import Redactor
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.watching import ModelCall, Watcher

log = logging.getLogger(__name__)


class PromptLog(Watcher):
    """Logs each prompt of one turn, with stand-ins for private values."""

    def __init__(self, asked: TurnRequest, redactor: Redactor) -> None:
        self._asked = asked
        self._redactor = redactor

    async def asked(self, call: ModelCall) -> None:
        """Log the prompt."""
        messages = self._redactor.data(call.messages)
        fields = {"graph": self._asked.endpoint, "call": self._asked.call.id, "step": call.step, "model": call.model}
        log.info("prompt", extra={**fields, "messages": orjson.dumps(messages, default=str).decode()})
