"""Deepgram Voice Agent with `think.provider.type: open_ai` and an endpoint of one's own.

Source: its pages on models and errors, and the types of its SDK: the endpoint's URL is used as it is, headers are the
customer's. No field or header of a request names Deepgram, so the profile is named by the endpoint or a header. It has
no tool of its own to hang up: `end_call` with `farewell` is its example's. A turn without an answer ends the session.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="deepgram",
    hangup=ActionForm("end_call", {"message": "farewell"}),
    transfer=ActionForm("transfer_call", {"number": "number", "message": "message"}),
    on_failure="speak",
)
