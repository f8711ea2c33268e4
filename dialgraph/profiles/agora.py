"""Agora and Shengwang Conversational AI, `llm.vendor: custom`.

Source: their pages on custom LLMs. turn_id and timestamp are in the body and on messages. Control metadata is sent in a
first chunk. Every answer is a stream. The host speaks `failure_message` if a turn fails. They document no tool for a
hangup, because the call ends through their REST interface; so we chose the tool's name.
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
