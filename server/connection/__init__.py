"""The layer below ASGI: connections, their limits, and the client addresses that proxies report."""
