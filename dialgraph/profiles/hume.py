"""Hume EVI with a custom language model.

Source: its quickstart and sample. The session is the query parameter `custom_session_id`, and is returned in the
`system_fingerprint` of every chunk. `hang_up` is the name of the built-in tool.
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
