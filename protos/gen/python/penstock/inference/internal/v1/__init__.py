"""Generated from the protos of penstock.inference.internal.v1."""
