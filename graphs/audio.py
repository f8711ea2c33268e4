"""`/audio/chat/completions`: answers in sound, with transcripts and PCM16 frames."""

from dialgraph import Graph, Step, compile_graph

spec = Graph(
    name="audio",
    summary="Answers in sound.",
    steps=(
        Step("emit_audio"),
        Step("retrieve", options={"top_k": 2}, timeout_ms=400, on_timeout="rewrite_messages"),
        Step("rewrite_messages", options={"template": "with_context"}),
        Step("call_model"),
    ),
)
graph = compile_graph(spec)
