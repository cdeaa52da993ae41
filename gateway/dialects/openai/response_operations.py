"""What the dialect serves of responses, for the OpenAPI document."""

from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai import response_schema as schema
from gateway.openapi import Operation

_RESPONSES = "/v1/responses"
_RESPONSE = f"{_RESPONSES}/{{response_id}}"

RESPONSE_OPERATIONS = (
    Operation(
        "post",
        _RESPONSES,
        "Answers a conversation with typed items, and keeps the answer if it shall be.",
        answers.Response,
        body=schema.ResponseCreate,
        streams=True,
    ),
    Operation(
        "get", _RESPONSE, "Gets a stored response.", answers.Response, query=schema.ResponseQuery
    ),
    Operation("delete", _RESPONSE, "Deletes a stored response.", answers.ResponseDeleted),
    Operation(
        "post",
        f"{_RESPONSE}/cancel",
        "Refuses: only responses of the background could be cancelled, and there are none.",
        answers.Response,
    ),
    Operation(
        "get",
        f"{_RESPONSE}/input_items",
        "Lists what a stored response was made from, newest first.",
        answers.ResponseItemList,
        query=schema.InputItemsQuery,
    ),
)
"""In the order of the routes."""
