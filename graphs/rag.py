"""`/rag/chat/completions`: answers from a knowledge store, and fills the silence while it searches."""

from dialgraph import Graph, Step, compile_graph

spec = Graph(
    name="rag",
    summary="Answers from a knowledge base.",
    steps=(
        Step("acknowledge", options={"after_ms": 300}),
        Step("rewrite_question"),
        Step("retrieve", options={"top_k": 4}, timeout_ms=400, on_timeout="rewrite_messages"),
        Step("rewrite_messages", options={"template": "with_context"}),
        Step("call_model"),
    ),
)
graph = compile_graph(spec)
