"""Generated from the protos of penstock.embedding.v1."""
