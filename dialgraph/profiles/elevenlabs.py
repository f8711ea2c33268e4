"""ElevenLabs Agents with a custom LLM.

Source: its pages on custom LLMs and system tools. A first phrase must end in `"... "`, including the space, or the
sound is distorted. After its deadline (8 s) it closes the connection and sends the same request again. The third time
the call ends, so a turn goes on for a while after its client has left. An error ends the session, so words are spoken
instead. The argument of `play_keypad_touch_tone` is named as in its schema.
"""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="elevenlabs",
    evidence=(Evidence(body=("elevenlabs_extra_body",)),),
    call_places={
        "id": ("body.elevenlabs_extra_body.call_id", "body.elevenlabs_extra_body.conversation_id"),
        "caller_number": ("body.elevenlabs_extra_body.caller_id",),
        "callee_number": ("body.elevenlabs_extra_body.called_number",),
        "user_data": ("body.user_id",),
    },
    private_fields=("elevenlabs_extra_body", "user_id"),
    hangup=ActionForm("end_call", {"reason": "reason", "message": "message"}),
    transfer=ActionForm("transfer_to_number", {"number": "transfer_number", "message": "client_message"}),
    digits=ActionForm("play_keypad_touch_tone", {"digits": "dtmf_tones"}),
    filler_suffix="... ",
    on_failure="speak",
    linger_ms=2000,
)
