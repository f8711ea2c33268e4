"""HTTP over ASGI: reads requests, sends replies and watches clients. The protocols decide what a reply contains."""
