"""Hayhooks (deepset): a Haystack pipeline of one component, streamed as chat completions."""

import os
from collections.abc import AsyncGenerator
from typing import Any

from hayhooks import BasePipelineWrapper, async_streaming_generator
from haystack import Pipeline
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline that Hayhooks serves."""

    def setup(self) -> None:
        """Create the pipeline; Hayhooks calls this once, at its start."""
        url = os.environ["UPSTREAM"] + "/v1"
        model = OpenAIChatGenerator(Secret.from_token("none"), model="bench", api_base_url=url)
        self.pipeline = Pipeline()
        self.pipeline.add_component("llm", model)

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Stream one turn."""
        said = [ChatMessage.from_user(message["content"]) for message in messages]
        return async_streaming_generator(pipeline=self.pipeline, pipeline_run_args={"llm": {"messages": said}})
