"""Any client of OpenAI chat completions, and the spellings that belong to no single host."""

from dialgraph.profiles.profile import Profile

PROFILE = Profile(
    name="openai",
    call_places={
        "id": (
            "body.conversation_id", "body.metadata.call_id", "body.metadata.callId", "body.metadata.call_sid",
            "body.metadata.conversation_id", "body.session_id", "body.custom_session_id", "body.call_id",
            "body.call_sid", "body.channel", "query.call_id", "query.session_id", "query.task_id",
            "header.x-call-id", "header.x-session-id", "header.x-conversation-id",
        ),
        "turn_id": ("body.metadata.turn_id", "header.x-turn-id", "query.turn_id"),
        "caller_number": ("body.metadata.caller_number", "header.x-caller-number", "query.caller_number"),
        "callee_number": ("body.metadata.callee_number", "header.x-callee-number", "query.callee_number"),
        "channel": ("body.channel", "body.metadata.channel", "query.channel", "query.room_id"),
        "user_data": (
            "body.metadata.user_id", "body.userId", "body.user_uid", "body.user", "header.x-user-id", "query.user_id",
        ),
        "source": ("body.metadata.source", "header.x-turn-source", "query.source"),
    },
    private_fields=(
        "session_id", "conversation_id", "channel", "appId", "app_id", "userId", "user_uid", "agent_uid", "instanceId",
        "call_id", "call_sid", "phone_number",
    ),
    turn_sources={
        "asr": "words", "llm": "words", "user": "words", "text": "words",
        "greeting": "opening", "opening": "opening", "call_started": "opening", "welcome": "opening",
        "silence": "silence", "idle": "silence", "no_input": "silence", "user_idle": "silence", "reminder": "silence",
        "timeout": "silence", "silence_timeout": "silence",
        "voicemail": "voicemail", "answering_machine": "voicemail", "machine": "voicemail",
        "voicemail_detected": "voicemail",
    },
    speakable=False,
    keeps_extras=True,
)  # fmt: skip
