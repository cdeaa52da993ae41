"""Generated from the protos of penstock.training.internal."""
