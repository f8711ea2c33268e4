"""Logs what the models of a turn are sent, if the settings ask for it."""

import logging
from collections.abc import Collection

import orjson

from dialgraph.privacy.finders import words_finder
from dialgraph.privacy.redaction import Redactor
from dialgraph.turn.node import Turn
from dialgraph.turn.watching import ModelCall, Watcher

log = logging.getLogger(__name__)


class PromptLog(Watcher):
    """Logs each prompt of one turn, with stand-ins for private values."""

    def __init__(self, turn: Turn, redactor: Redactor, private_slots: Collection[str] = ()) -> None:
        """`private_slots`: the slots of the memory whose values are private."""
        self._asked = turn.asked
        self._turn = turn
        self._redactor = redactor
        self._private_slots = private_slots

    async def asked(self, call: ModelCall) -> None:
        """Log the prompt."""
        known = words_finder(self._turn.memory.values_of(self._private_slots))
        messages = self._redactor.and_words(known).data(call.messages)
        fields = {"graph": self._asked.endpoint, "call": self._asked.call.id, "step": call.step, "model": call.model}
        log.info("prompt", extra={**fields, "messages": orjson.dumps(messages, default=str).decode()})
