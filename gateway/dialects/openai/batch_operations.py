"""What the dialect serves of batches, for the OpenAPI document."""

from gateway.dialects.openai import batch_schema as schema
from gateway.openapi import Operation

_BATCHES = "/v1/batches"
_BATCH = f"{_BATCHES}/{{batch_id}}"

BATCH_OPERATIONS = (
    Operation(
        "post", _BATCHES, "Makes a batch of requests.", schema.BatchObject, body=schema.BatchCreate
    ),
    Operation(
        "get",
        _BATCHES,
        "Lists batches, newest first.",
        schema.BatchList,
        query=schema.BatchesQuery,
    ),
    Operation("get", _BATCH, "Gets a batch.", schema.BatchObject),
    Operation("post", f"{_BATCH}/cancel", "Cancels a batch.", schema.BatchObject),
)
"""In the order of the routes."""
