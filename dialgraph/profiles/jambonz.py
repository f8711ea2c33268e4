"""jambonz with its `agent` verb and `llm.vendor: openai`.

Source: the verb's schema and its OpenAI adapter: a base address and a bearer key; no header and no field of its own, so
the profile is named by the endpoint. It always streams, and obeys tool calls only behind the finish `tool_calls`. The
verb puts `hangup` with `reason` and `transfer_to_human` into the request. There is no tool that sends digits.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="jambonz",
    hangup=ActionForm("hangup", {"reason": "reason"}),
    transfer=ActionForm("transfer_to_human"),
    on_failure="speak",
    streams=True,
)
