"""jambonz with its `agent` verb and `llm.vendor: openai`.

Source: the verb's schema and its OpenAI adapter. It sends a bearer key to a base address, with no header or field of
its own, so the endpoint must name the profile. It always streams, and obeys tool calls only if the finish reason is
`tool_calls`. The verb adds `hangup` with `reason` and `transfer_to_human` to the request. It has no tool that sends
digits.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="jambonz",
    hangup=ActionForm("hangup", {"reason": "reason"}),
    transfer=ActionForm("transfer_to_human"),
    on_failure="speak",
    streams=True,
)
