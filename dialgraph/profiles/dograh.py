"""Dograh, which is built on Pipecat's OpenAI service.

Source: its service factory and tools. It sends a bearer key to the base address, with no header or field of its own, so
the endpoint must name the profile. A tool is called by its name in snake case: "End Call" is `end_call`, with `reason`
if the tool asks for one; transfers take no arguments. It extracts variables with `stream: false`. It does not speak
errors.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="dograh",
    hangup=ActionForm("end_call"),
    transfer=ActionForm("transfer_call"),
    on_failure="speak",
)
