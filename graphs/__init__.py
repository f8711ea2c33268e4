"""Which steps, in which order. One endpoint a file: its `spec` declares it, its `graph` runs it."""
