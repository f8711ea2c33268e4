"""The server process: its sockets, start, stop and reload."""
