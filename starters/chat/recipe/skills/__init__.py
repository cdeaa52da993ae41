"""Skills: one module per family, each generating examples from a source of random material."""
