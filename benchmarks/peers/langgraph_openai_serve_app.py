"""langgraph-openai-serve with a LangGraph graph of one node that calls ChatOpenAI."""

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph_openai_serve import GraphConfig, GraphRegistry, LanggraphOpenaiServe

model = ChatOpenAI(model="bench", base_url=os.environ["UPSTREAM"] + "/v1", api_key="none")


async def answer(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
app = FastAPI()
registry = GraphRegistry(graphs={"chat": GraphConfig(graph=builder.compile(), description="Answers.")})
LanggraphOpenaiServe(app=app, registry=registry).bind_openai_api(prefix="/v1")

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
