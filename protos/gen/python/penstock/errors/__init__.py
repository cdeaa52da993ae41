"""Generated from the protos of penstock.errors."""
