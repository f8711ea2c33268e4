"""Vapi, `model.provider: custom-llm`.

Source: its pages on custom LLMs, default tools and the flush tag. `endCall` and the other tools work only if the
assistant also lists them. An error frame ends the call (`pipeline-error-custom-llm-llm-failed`), so words are spoken
instead. The arguments of `dtmf` are from the tool in its dashboard, not from a page.
"""

from dialgraph.profiles.profile import ActionForm, Evidence, Profile

PROFILE = Profile(
    name="vapi",
    evidence=(
        Evidence(body=("call.id", "phoneNumber")),
        Evidence(body=("call.id", "customer")),
        Evidence(body=("call.id", "call.type")),
        Evidence(body=("call.id", "assistant")),
    ),
    call_places={
        "id": ("body.call.id",),
        "caller_number": ("body.customer.number", "body.call.customer.number"),
        "callee_number": ("body.phoneNumber.number", "body.call.phoneNumber.number"),
    },
    private_fields=("call", "phoneNumber", "customer", "assistant"),
    hangup=ActionForm("endCall"),
    transfer=ActionForm("transferCall", {"number": "destination"}),
    digits=ActionForm("dtmf", {"digits": "dtmf"}),
    filler_suffix=" <flush /> ",
    on_failure="speak",
)
