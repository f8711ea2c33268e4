"""LiveKit Agents with its OpenAI plugin.

Source: the plugin. It gives up after ten seconds without a byte, and tries again only if nothing was spoken. It reports
an error frame as an error, which its fallback adapter needs. `end_call` is its EndCallTool, and `send_dtmf_events` is a
tool of its own.
"""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="livekit",
    evidence=(Evidence(headers={"user-agent": "LiveKit Agents"}),),
    call_places={"channel": ("header.x-livekit-room",)},
    hangup=ActionForm("end_call"),
    transfer=ActionForm("transfer_call", {"number": "number", "message": "message"}),
    digits=ActionForm("send_dtmf_events", {"digits": "events"}, one_by_one=True),
)
