"""Below ASGI: connections, their limits, and whom a proxy speaks for."""
