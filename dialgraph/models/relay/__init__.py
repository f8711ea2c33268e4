"""The fast path to any server that speaks OpenAI chat completions."""
