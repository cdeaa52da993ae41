"""How long the platform takes from a warm start to the first token."""
