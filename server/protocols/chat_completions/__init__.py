"""OpenAI's chat completions, and the same events for turns of a conversation."""
