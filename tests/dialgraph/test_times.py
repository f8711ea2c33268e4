"""The parts of a wait: they follow each other without gaps, and each names what the caller waited for."""

import pytest

from dialgraph.turn.events import Timing
from dialgraph.turn.times import ModelTime, ReplyMarks, TurnTimes


def step(name: str, started_ms: float, ended_ms: float) -> Timing:
    return Timing(name, started_ms, ended_ms, "ok")


def shown(times: TurnTimes, reached: float, *, sound: bool = False) -> list[tuple[str, float]]:
    parts = times.parts(ReplyMarks(0.99, 0.995, audio=reached if sound else 0.0), reached)
    assert sum(part.ms for part in parts) == pytest.approx((reached - 0.99) * 1000), "they add up"
    return [(str(part), round(part.ms, 3)) for part in parts if round(part.ms, 3)]


def test_the_wait_for_a_model_is_told_apart_from_its_step() -> None:
    times = TurnTimes(1.0, spoken=1.305, heard=1.306, open_steps={"call_model": 1.016})
    times.steps = [step("acknowledge", 0, 1), step("retrieve", 1.5, 15)]
    times.models = [ModelTime("call_model", "main", 1.017, 1.3)]
    assert shown(times, 1.307) == [
        ("read", 5), ("admission", 5), ("acknowledge", 1), ("graph", 0.5), ("retrieve", 13.5), ("graph", 1),
        ("call_model", 1), ("call_model.model", 283), ("call_model", 5), ("held", 1), ("send", 1),
    ]  # fmt: skip


def test_of_two_steps_at_the_same_time_the_slower_one_is_the_wait() -> None:
    times = TurnTimes(1.0, spoken=1.1, heard=1.1, open_steps={"call_model": 1.05})
    times.steps = [step("fast", 0, 20), step("slow", 0, 50)]
    assert shown(times, 1.1) == [("read", 5), ("admission", 5), ("slow", 50), ("call_model", 50)]


def test_each_round_of_tools_is_a_part() -> None:
    times = TurnTimes(1.0, spoken=1.4, heard=1.4, open_steps={"call_model": 1.3})
    times.steps = [step("call_model", 0, 100), step("run_tools", 100, 300)]
    times.models = [ModelTime("call_model", "main", 1.0, 1.1, 1.1), ModelTime("call_model", "main", 1.3, 1.4)]
    assert shown(times, 1.4) == [
        ("read", 5), ("admission", 5), ("call_model.model", 100), ("run_tools", 200), ("call_model.model", 100),
    ]  # fmt: skip


def test_a_turn_without_a_word_is_a_wait_until_now() -> None:
    times = TurnTimes(1.0, open_steps={"call_model": 1.0}, models=[ModelTime("call_model", "main", 1.0)])
    assert shown(times, 3.0) == [("read", 5), ("admission", 5), ("call_model.model", 2000)]


def test_the_way_from_the_first_word_to_its_sound_is_the_voice() -> None:
    times = TurnTimes(1.0, spoken=1.1, heard=1.15, steps=[step("greet", 0, 100)])
    assert shown(times, 1.4, sound=True) == [("read", 5), ("admission", 5), ("greet", 100), ("voice", 300)]


def test_a_client_that_joins_waits_only_from_its_own_request() -> None:
    times = TurnTimes(0.5, spoken=1.2, heard=1.2, steps=[step("retrieve", 0, 600)], open_steps={"call_model": 1.1})
    assert shown(times, 1.2) == [("read", 5), ("retrieve", 105), ("call_model", 100)]
