"""`/chat/completions`: the caller talks with a model."""

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.spec import Graph, Step

spec = Graph(
    name="chat",
    path="/chat/completions",
    summary="Talks with a model.",
    steps=(Step("call_model"),),
)
graph = compile_graph(spec)
