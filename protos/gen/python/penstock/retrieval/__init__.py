"""Generated from the protos of penstock.retrieval."""
