"""Generated from the protos of penstock.embedding."""
