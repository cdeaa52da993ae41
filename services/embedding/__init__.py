"""EmbeddingService: turns texts into vectors and orders documents by a query."""
