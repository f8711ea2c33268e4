"""What is served: the completions of every graph, and what tells about them."""
