"""Where InferenceService keeps responses."""

from services.inference.response_stores.sql import SqlResponses

__all__ = ["SqlResponses"]
