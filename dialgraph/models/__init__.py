"""Language models: the ChatModel port and its engines, opened by URL."""
