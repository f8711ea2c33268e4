"""What is known: the Store port and its engines, opened by URL; documents, passages, embeddings."""
