"""One run of a turn: its task, its events, its listeners and how it ends."""
