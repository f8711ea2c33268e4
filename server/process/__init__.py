"""The server process: its sockets, its start, its end."""
