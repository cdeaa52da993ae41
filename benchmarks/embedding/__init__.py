"""Benchmark of embeddings: our engine beside sentence-transformers."""
