"""`/audio/chat/completions`: answers in sound, with transcripts and PCM16 frames."""

from dialgraph import Graph, Step, compile_graph

spec = Graph(
    name="audio",
    summary="Answers in sound.",
    instructions=(
        "You are a friendly assistant on the phone. Answer in one or two short spoken sentences, in the caller's"
        " language, without lists or formatting."
    ),
    steps=(
        Step("emit_audio"),
        Step("retrieve", options={"top_k": 2}, timeout_ms=400, on_timeout="rewrite_messages"),
        Step("rewrite_messages"),
        Step("call_model"),
    ),
)
graph = compile_graph(spec)
