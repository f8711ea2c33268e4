"""Pipecat with its OpenAI service.

Source: the service. It runs any function that is registered under the name that we call, so the names are a convention
(its examples use `end_call`). Its requests look like those of any openai-python client, so name the profile in the
endpoint or send the header. With its turn completion, an answer begins with a mark that says whether the caller has
finished.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="pipecat",
    hangup=ActionForm("end_call"),
    transfer=ActionForm("transfer_call", {"number": "number", "message": "message"}),
    turn_markers="✓○◐",
)
