"""The REST edge: speaks other people's dialects and turns each call into gRPC."""
