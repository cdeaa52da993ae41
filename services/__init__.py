"""The platform's gRPC services; each runs as its own process."""
