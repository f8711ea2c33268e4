"""The whole product: its package, docs, crashes, and real clients."""
