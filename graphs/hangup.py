"""`/hangup/chat/completions`: a receptionist that answers questions, says goodbye and hangs up."""

from dialgraph import END, Graph, Step, compile_graph

spec = Graph(
    name="hangup",
    summary="A receptionist that answers from the handbook, says goodbye and hangs up.",
    instructions="receptionist",  # nodes/templates/receptionist.j2
    steps=(
        Step("retrieve", options={"top_k": 4}, timeout_ms=400, on_timeout="rewrite_messages"),
        Step("rewrite_messages"),
        Step("call_model", then={"answered": END, "hangup": "hangup"}),
        Step("hangup", options={"say": {"en": "Thank you for calling. Goodbye!", "zh": "感谢您的来电，再见！"}}),
    ),
)
graph = compile_graph(spec)
