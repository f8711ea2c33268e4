"""Hume EVI with a custom language model.

Source: its quickstart and sample: the session is the query parameter `custom_session_id`, and is given back in the
`system_fingerprint` of every chunk. `hang_up` is the built-in tool's name.
"""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="hume",
    evidence=(Evidence(query=("custom_session_id",)),),
    call_places={"id": ("query.custom_session_id",)},
    private_fields=("custom_session_id",),
    hangup=ActionForm("hang_up"),
    echoes_session=True,
    streams=True,
)
