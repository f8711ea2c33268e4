"""The table of all metrics. Names and labels are a contract with users' dashboards: a change is a new VERSION.

No label ever holds an id of a call or a user.
"""

from dataclasses import dataclass
from typing import Final, Literal

VERSION: Final = 1
SECONDS: Final = tuple(round(0.01 * 2**power, 2) for power in range(14))
"""Buckets from 0.01 to 81.92 s, powers of two, as OpenTelemetry's GenAI conventions recommend."""
SHORT_SECONDS: Final = tuple(round(0.0005 * 2**power, 4) for power in range(14))
"""Buckets from 0.5 ms to 4.1 s, for steps, cancellations and the delay of the event loop."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it counts, and the alert that it is for."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    about: str
    alert: str = ""
    """When to wake somebody up. Empty: it is for dashboards."""
    buckets: tuple[float, ...] = SECONDS


TURNS: Final = Metric(
    "dialgraph_turns_total", "counter", ("graph", "profile", "outcome"),
    "Turns that have ended. `outcome`: `complete`, `cancelled` (the caller left or spoke on) or `error:` with the code"
    " that the client got.",
    "More than 2 % of the turns end with `error:`.",
)  # fmt: skip
FIRST_WORD: Final = Metric(
    "dialgraph_turn_first_word_seconds", "histogram", ("graph",),
    "From the request until the first word of the answer was written to the socket. Fillers do not count.",
    "The 95th percentile is above the wait that your callers accept, for example 2 s.",
)  # fmt: skip
FIRST_AUDIO: Final = Metric(
    "dialgraph_turn_first_audio_seconds", "histogram", ("graph",),
    "From the request until the first sound of the answer was written, for turns with sound.",
)  # fmt: skip
DURATION: Final = Metric(
    "dialgraph_turn_duration_seconds", "histogram", ("graph",), "From the request until the turn had ended."
)
PART: Final = Metric(
    "dialgraph_turn_part_seconds", "histogram", ("graph", "part"),
    "The parts of the wait for the first word (or sound): `read`, `admission`, each step, `STEP.model`, `graph`,"
    " `held`, `voice` and `send`. The parts of a turn add up to its wait.",
    buckets=SHORT_SECONDS,
)  # fmt: skip
STEP: Final = Metric(
    "dialgraph_step_seconds", "histogram", ("graph", "step"), "How long each step ran.", buckets=SHORT_SECONDS
)
MODEL: Final = Metric(
    "dialgraph_model_time_to_first_chunk_seconds", "histogram", ("model",),
    "From a request to a model until the first event of its answer. `model`: its name in the settings.",
    "The median is twice its usual value.",
)  # fmt: skip
MODEL_ERRORS: Final = Metric(
    "dialgraph_model_errors_total", "counter", ("model", "error"),
    "Calls of a model that failed. `error`: `timeout`, `rate_limited`, `unavailable` …",
    "More than 5 % of the calls of a model fail.",
)  # fmt: skip
TOOL: Final = Metric(
    "dialgraph_tool_seconds", "histogram", ("tool", "outcome"),
    "How long each call of a tool on this server took. `outcome`: `ok`, `error` or `timeout`.",
)  # fmt: skip
TOKENS: Final = Metric(
    "dialgraph_tokens_total", "counter", ("model", "kind"),
    "`kind`: `prompt` or `completion`. They equal the rows of usage. Those of interrupted answers are estimates.",
)  # fmt: skip
COST: Final = Metric(
    "dialgraph_cost_usd_total", "counter", ("graph", "model"),
    "What the tokens cost, in US dollars, by the price table. Models without a price are not in it.",
    "The cost of an hour is twice that of the same hour last week.",
)  # fmt: skip
UNKNOWN_COST: Final = Metric(
    "dialgraph_turns_without_price_total", "counter", ("graph", "model"),
    "Turns whose cost is not known, because the model is not in the price table.",
    "It grows: add the model to the file of DIALGRAPH_PRICES.",
)  # fmt: skip
IN_FLIGHT: Final = Metric("dialgraph_turns_in_flight", "gauge", (), "Turns that run now. Scale by it.")
CANCEL: Final = Metric(
    "dialgraph_cancel_seconds", "histogram", (),
    "From the moment that a caller left or spoke on until nothing of the turn was active any more.",
    "The 99th percentile is above 0.1 s: tokens are spent on answers that nobody hears.",
    SHORT_SECONDS,
)  # fmt: skip
BREAKER: Final = Metric(
    "dialgraph_breaker_open", "gauge", ("model",), "1 while the server of a model is down and is not asked.",
    "It is 1 for a minute.",
)  # fmt: skip
FILLERS: Final = Metric("dialgraph_fillers_total", "counter", ("graph",), "Fillers that were spoken.")
GUARD: Final = Metric(
    "dialgraph_guard_actions_total", "counter", ("graph", "rule"),
    "Sentences in which a rule of the guard has found something. `rule`: what it finds.",
)  # fmt: skip
JOBS: Final = Metric(
    "dialgraph_ingest_jobs", "gauge", ("state",), "Files that wait to be added to a store, or failed.",
    "The number of `queued` files grows for an hour.",
)  # fmt: skip
LOOP_DELAY: Final = Metric(
    "dialgraph_loop_delay_seconds", "histogram", (),
    "How late the event loop was, measured ten times a second. A late loop is heard as stutter.",
    "The 99th percentile is above 0.05 s.",
    SHORT_SECONDS,
)  # fmt: skip
REFUSED: Final = Metric(
    "dialgraph_requests_refused_total", "counter", ("status", "code"),
    "Requests that were refused before a turn began.",
    "429 or 503 for a minute: the server is full.",
)  # fmt: skip

DROPPED: Final = Metric(
    "dialgraph_records_dropped_total", "counter", (),
    "Records of turns that were lost: the queue was full, or the disk refused them. No call waits for its record.",
    "It grows.",
)  # fmt: skip

METRICS: Final = (
    TURNS, FIRST_WORD, FIRST_AUDIO, DURATION, PART, STEP, MODEL, MODEL_ERRORS, TOOL, TOKENS, COST, UNKNOWN_COST,
    IN_FLIGHT, CANCEL, BREAKER, FILLERS, GUARD, JOBS, LOOP_DELAY, REFUSED, DROPPED,
)  # fmt: skip
