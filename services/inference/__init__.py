"""InferenceService: chat, completion and tokens on the engines of this process."""
