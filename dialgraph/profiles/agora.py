"""Agora and Shengwang Conversational AI, `llm.vendor: custom`.

Source: their pages on custom LLMs (turn_id and timestamp ride on the body and on messages; control metadata comes in a
first chunk; a stream is the only form; `failure_message` is spoken by the host when a turn fails). They document no
hangup by tool: the call ends through their REST interface, so the tool's name is ours.
"""

from dialgraph.profiles.profile import Evidence, Profile

PROFILE = Profile(
    name="agora",
    evidence=(Evidence(body=("turn_id", "timestamp")), Evidence(messages=("turn_id", "timestamp"))),
    call_places={
        "id": ("body.context.call_id", "body.context.channel"),
        "turn_id": ("body.turn_id",),
        "channel": ("body.context.channel",),
        "user_data": ("body.context.userId", "body.context.user_id"),
    },
    private_fields=("context", "turn_id", "timestamp", "interruptable"),
    turn_sources={"asr": "words", "greeting": "opening", "silence": "silence"},
    interruption_field="metadata.interrupted",
    metadata_chunk=True,
    raw_sound=True,
    streams=True,
)
