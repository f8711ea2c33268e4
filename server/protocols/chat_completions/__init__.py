"""OpenAI's chat completions, also for the turns of a conversation."""
