"""Measures how late the event loop is. A late loop is heard as stutter in every call."""

import asyncio
from collections.abc import Callable
from typing import Final

from dialgraph.environment import Environment

_SECONDS: Final = 0.1


async def measure_loop_delay(observe: Callable[[float], None], environment: Environment) -> None:
    """Call `observe` ten times a second with the seconds by which the event loop was late, until cancelled."""
    while True:
        before = environment.now()
        await asyncio.sleep(_SECONDS)
        observe(max(environment.now() - before - _SECONDS, 0.0))
