"""Deepgram Voice Agent with `think.provider.type: open_ai` and a custom endpoint.

Source: its pages on models and errors, and the types of its SDK. The endpoint's URL is used unchanged; the customer
chooses the headers. No field or header of a request shows Deepgram, so the endpoint or a header must name the profile.
It has no hangup tool of its own: `end_call` with `farewell` is from its example. A turn without an answer ends the
session.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="deepgram",
    hangup=ActionForm("end_call", {"message": "farewell"}),
    transfer=ActionForm("transfer_call", {"number": "number", "message": "message"}),
    on_failure="speak",
)
