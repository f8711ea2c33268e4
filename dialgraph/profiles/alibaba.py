"""Alibaba Cloud real-time conversational AI (ARTC, IMS), the standard interface for language models.

Source: the interface's page: `extendData` with instanceId, channelId and sentenceId; the tool `hangup` without
arguments; every answer is a stream. Its reaction to an error frame is not documented, so the caller hears words.
"""

from dialgraph.profiles.profile import Evidence, Profile

PROFILE = Profile(
    name="alibaba",
    evidence=(Evidence(body=("extendData.instanceId",)), Evidence(body=("extendData.sentenceId",))),
    call_places={
        "id": ("body.extendData.instanceId",),
        "turn_id": ("body.extendData.sentenceId",),
        "caller_number": ("body.extendData.callerNumber",),
        "callee_number": ("body.extendData.calleeNumber",),
        "channel": ("body.extendData.channelId",),
        "user_data": ("body.extendData.userData",),
    },
    private_fields=("extendData",),
    interruption_tag="<ims_agent_interrupted>",
    on_failure="speak",
    streams=True,
)
