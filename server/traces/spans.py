"""The spans of a turn, as values: what each is called, when it was, and what is known of it. Pure.

The names are those of the GenAI conventions 0.1 (https://github.com/open-telemetry/semantic-conventions-genai). Phoenix
reads OpenInference's names, which are added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from dialgraph.models.port import ModelAddress
from dialgraph.privacy.redaction import Redactor
from dialgraph.turn.events import Timing
from dialgraph.turn.times import ModelTime, ToolTime
from server.turns.report import TurnReport

_PROVIDERS: Final = {
    "api.openai.com": "openai", "openai.azure.com": "azure.ai.openai", "api.anthropic.com": "anthropic",
    "api.groq.com": "groq", "api.mistral.ai": "mistral_ai", "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini", "api.x.ai": "x_ai", "api.perplexity.ai": "perplexity",
}  # fmt: skip
"""Hosts of model servers → the well-known values of `gen_ai.provider.name`."""
_ENDS: Final = {"complete": "completed", "cancelled": "interrupted"}
"""Outcomes → values of `gen_ai.agent.invocation.end_reason`."""


@dataclass(frozen=True, slots=True)
class PlannedSpan:
    """One span. Times are in seconds on the environment's clock."""

    name: str
    attributes: Mapping[str, Any]
    began: float
    ended: float
    error: str = ""
    client: bool = False
    """Whether it is a call of another server."""
    inside: Sequence["PlannedSpan"] = ()


@dataclass(frozen=True, slots=True)
class Spans:
    """Plans the spans of turns."""

    addresses: Mapping[str, ModelAddress]
    content: bool
    """Whether spans contain what was said."""
    older: bool
    """Whether they have the older names of attributes too."""

    def of(self, report: TurnReport, version: str, stores: Mapping[str, str], redactor: Redactor) -> PlannedSpan:
        """Return the span of a turn with all that is inside. `version`: of its graph. `stores`: by the steps."""
        entry, times, call = report.entry, report.times, redactor.text(report.asked.call.id)
        about: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": entry.endpoint,
            "gen_ai.agent.version": version,
            "gen_ai.agent.invocation.end_reason": _ENDS.get(entry.outcome, "session_closed"),
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.output_tokens": entry.completion_tokens,
            "dialgraph.host": report.asked.profile.name,
            "openinference.span.kind": "AGENT",
            **{f"dialgraph.{name}": ms for name, ms in report.times_in_ms.items()},
            **({"gen_ai.conversation.id": call, "session.id": call} if call else {}),
            **({"user.id": entry.user_id} if entry.user_id else {}),
        }
        if self.content:
            about |= {"input.value": redactor.text(report.said), "output.value": redactor.text(report.heard)}
        steps = [self._step(step, report, stores.get(step.step, ""), redactor) for step in times.steps]
        error = entry.outcome.removeprefix("error:") if entry.outcome.startswith("error:") else ""
        ended = max(times.ended, report.reply.came)
        return PlannedSpan(f"invoke_agent {entry.endpoint}", about, report.reply.came, ended, error, inside=steps)

    def names_of(self, model: ModelTime, redactor: Redactor) -> tuple[str, str, str]:
        """Return the upstream's name of a model, its provider and its host. Clients choose the name."""
        address = self.addresses.get(model.model)
        name = model.upstream_model or (address.model if address else "") or model.model
        host = (urlsplit(address.url).hostname or "") if address else ""
        return redactor.text(name), _PROVIDERS.get(host, host or "dialgraph"), host

    def _step(self, step: Timing, report: TurnReport, store: str, redactor: Redactor) -> PlannedSpan:
        times = report.times
        began, ended = (times.started + ms / 1000 for ms in (step.started_ms, step.ended_ms))
        about: dict[str, Any] = {
            "dialgraph.step": step.step,
            "dialgraph.step.outcome": step.outcome,
            "openinference.span.kind": "RETRIEVER" if store else "CHAIN",
            **({"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": store} if store else {}),
        }
        inside = [
            *(
                self._model(one, redactor)
                for one in times.models
                if one.step == step.step and began <= one.asked <= ended
            ),
            *(_tool(one) for one in times.tools if one.step == step.step and began <= one.began <= ended),
        ]
        name = f"retrieval {store}" if store else f"step {step.step}"
        return PlannedSpan(name, about, began, ended, "" if step.outcome == "ok" else step.outcome, inside=inside)

    def _model(self, model: ModelTime, redactor: Redactor) -> PlannedSpan:
        asked, provider, host = self.names_of(model, redactor)
        about: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": asked,
            "gen_ai.request.stream": True,
            "gen_ai.usage.input_tokens": model.prompt_tokens,
            "gen_ai.usage.output_tokens": model.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": model.cached_tokens,
            "server.address": host,
            "openinference.span.kind": "LLM",
            "llm.model_name": asked,
            "llm.token_count.prompt": model.prompt_tokens,
            "llm.token_count.completion": model.completion_tokens,
        }
        if model.first:
            about["gen_ai.response.time_to_first_chunk"] = model.first - model.asked
        if self.older:
            about |= {
                "gen_ai.system": provider,
                "gen_ai.usage.prompt_tokens": model.prompt_tokens,
                "gen_ai.usage.completion_tokens": model.completion_tokens,
            }
        ended = max(model.ended, model.asked)
        return PlannedSpan(f"chat {asked}", about, model.asked, ended, model.error, client=True)


def _tool(tool: ToolTime) -> PlannedSpan:
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.tool, "openinference.span.kind": "TOOL"}
    error = "" if tool.outcome == "ok" else tool.outcome
    return PlannedSpan(f"execute_tool {tool.tool}", about, tool.began, max(tool.ended, tool.began), error)
