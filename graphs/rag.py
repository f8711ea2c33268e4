"""`/rag/chat/completions`: answers from a knowledge store, and fills the silence while it searches."""

from dialgraph import Graph, Step, compile_graph

spec = Graph(
    name="rag",
    summary="Answers from a knowledge base.",
    instructions=(
        "You are a friendly assistant on the phone. Answer in one or two short spoken sentences, in the caller's"
        " language, without lists or formatting."
    ),
    steps=(
        Step("acknowledge", options={"after_ms": 300}),
        Step("rewrite_question"),
        Step("retrieve", options={"top_k": 4}, timeout_ms=400, on_timeout="rewrite_messages"),
        Step("rewrite_messages"),
        Step("call_model"),
    ),
)
graph = compile_graph(spec)
