"""Generated from the protos of penstock.training.v1."""
