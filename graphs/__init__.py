"""The endpoints, one per file. `spec` declares the steps and their order; `graph` is the compiled graph."""
