"""Alibaba Cloud real-time conversational AI (ARTC, IMS), the standard interface for language models.

Source: the interface's page: `extendData` with instanceId, channelId and sentenceId; the tool `hangup` without
arguments; a stream is the only form. What it does on an error frame is not documented, so the caller hears words.
"""

from dialgraph.profiles.profile import Evidence, Profile

PROFILE = Profile(
    name="alibaba",
    evidence=(Evidence(body=("extendData.instanceId",)), Evidence(body=("extendData.sentenceId",))),
    on_failure="speak",
    streams=True,
)
