"""Generated from the protos of penstock.access.v1."""
