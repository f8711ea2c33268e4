"""Telnyx AI Assistants with a custom LLM.

Source: its page on custom LLMs and the types of its SDK. With `forward_metadata` the assistant's dynamic variables are
in `extra_metadata`: the caller as `telnyx_end_user_target`, our number as `telnyx_agent_target`. `call_control_id` was
seen in calls. The tools have the types `hangup`, `transfer` and `send_dtmf`; the request contains their names.
"""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="telnyx",
    evidence=(
        Evidence(body=("extra_metadata.telnyx_end_user_target",)),
        Evidence(body=("extra_metadata.telnyx_agent_target",)),
        Evidence(body=("extra_metadata.call_control_id",)),
    ),
    call_places={
        "id": (
            "body.extra_metadata.call_control_id",
            "body.extra_metadata.telnyx_call_session_id",
            "body.extra_metadata.telnyx_conversation_id",
        ),
        "caller_number": ("body.extra_metadata.telnyx_end_user_target",),
        "callee_number": ("body.extra_metadata.telnyx_agent_target",),
    },
    private_fields=("extra_metadata",),
    digits=ActionForm("send_dtmf", {"digits": "digits"}),
    on_failure="speak",
)
