"""`/chat/completions`: lets the caller talk with a model."""

from dialgraph import Graph, Step, compile_graph

spec = Graph(
    name="chat",
    path="/chat/completions",
    summary="Talks with a model.",
    steps=(Step("call_model"),),
)
graph = compile_graph(spec)
