"""Generated from the protos of penstock.image."""
