"""What a step gets and what it can do: the turn, the call, events, the line and memory."""
