"""What a server knows: the Store port with its engines, opened by URL, and documents, passages and embeddings."""
