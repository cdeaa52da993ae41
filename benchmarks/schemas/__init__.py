"""What decoding a chat request into a typed schema takes: msgspec beside pydantic."""
