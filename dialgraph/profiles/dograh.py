"""Dograh, which is built on Pipecat's OpenAI service.

Source: its service factory and tools: the base address and a bearer key, no header and no field of its own, so the
profile is named by the endpoint. A tool is called by its name in snake case: "End Call" is `end_call`, with `reason` if
the tool asks for one; transfers take no arguments. It extracts variables with `stream: false`. No error is spoken.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="dograh",
    hangup=ActionForm("end_call"),
    transfer=ActionForm("transfer_call"),
    on_failure="speak",
)
