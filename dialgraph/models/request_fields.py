"""The fields of a client's request that are sent to a model: those in OpenAI's API documentation and `extra_fields`.

A field that is null or empty is left out: it means nothing to any provider, and some refuse it.

A host's own fields mean nothing to a provider, and many providers refuse unknown fields. `base_url`, `api_key` and
`extra_headers` are settings of client libraries. They must never reach a server under our key.
"""

from collections.abc import Collection, Mapping
from typing import Final

DOCUMENTED: Final = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "metadata", "modalities", "moderation", "n", "parallel_tool_calls", "prediction",
        "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort",
        "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature", "tool_choice",
        "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Source: `types/chat/completion_create_params.py` of openai-python 3.57. `messages`, `model`, `stream` and
`stream_options` are not listed, because they are set for each model."""


def passed_on(request: Mapping[str, object], extra: Collection[str] = ()) -> dict[str, object]:
    """Return the fields of a client's request that are sent to a model."""
    said = {key: value for key, value in request.items() if value is not None and value not in ([], {}, "")}
    kept = {key: value for key, value in said.items() if key in DOCUMENTED or key in extra}
    # OpenAI refuses metadata unless the answer is stored, and hosts put their own data there.
    if request.get("store") is not True and "metadata" not in extra:
        kept.pop("metadata", None)
    return kept
