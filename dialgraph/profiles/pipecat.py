"""Pipecat with its OpenAI service.

Source: the service: it runs whatever function is registered under the name that we call, so the names are a convention
(`end_call` is the one of its examples). Its requests look like any openai-python's: name the profile in the endpoint,
or send the header. Its turn completion lets an answer begin with a mark that says whether the caller has finished.
"""

from dialgraph.profiles.profile import ActionForm, Profile

PROFILE = Profile(
    name="pipecat",
    hangup=ActionForm("end_call"),
    transfer=ActionForm("transfer_call", {"number": "number", "message": "message"}),
    turn_markers="✓○◐",
)
