"""Agora and Shengwang Conversational AI, `llm.vendor: custom`.

Source: their pages on custom LLMs (turn_id and timestamp ride on the body and on messages; control metadata comes in a
first chunk; a stream is the only form; `failure_message` is spoken by the host when a turn fails). They document no
hangup by tool: the call ends through their REST interface, so the tool's name is ours.
"""

from dialgraph.profiles.profile import Evidence, Profile

PROFILE = Profile(
    name="agora",
    evidence=(Evidence(body=("turn_id", "timestamp")), Evidence(messages=("turn_id", "timestamp"))),
    metadata_chunk=True,
    raw_sound=True,
    streams=True,
)
