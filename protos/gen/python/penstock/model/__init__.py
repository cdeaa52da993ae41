"""Generated from the protos of penstock.model."""
