"""Logs what the models of a turn are sent, if the settings ask for it."""

import logging

import orjson

from dialgraph.graph.outlets import Outlets
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.watching import ModelCall, Watcher

log = logging.getLogger(__name__)


class PromptLog(Watcher):
    """Logs each prompt of one turn, without what the guard of its graph finds."""

    def __init__(self, asked: TurnRequest, outlets: Outlets) -> None:
        self._asked = asked
        self._outlets = outlets

    async def asked(self, call: ModelCall) -> None:
        """Log the prompt. The guard reads each text on its own, because a number may end at a quotation mark."""
        messages = [self._shown(message) for message in call.messages]
        fields = {"graph": self._asked.endpoint, "call": self._asked.call.id, "step": call.step, "model": call.model}
        log.info("prompt", extra={**fields, "messages": orjson.dumps(messages, default=str).decode()})

    def _shown(self, value: object) -> object:
        if isinstance(value, str):
            return self._outlets.redacted(value)
        if isinstance(value, dict):
            return {key: self._shown(one) for key, one in value.items()}
        return [self._shown(one) for one in value] if isinstance(value, list) else value
