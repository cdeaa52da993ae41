"""Ollama's API, for text and vectors. Models are deployed elsewhere: nothing is pulled here."""
