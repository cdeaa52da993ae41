"""What the dialect serves, for the OpenAPI document."""

from gateway.dialects.openai import answer_schema as answers
from gateway.dialects.openai import schema
from gateway.openapi import Operation

OPERATIONS = (
    Operation(
        "post",
        "/v1/chat/completions",
        "Answers a conversation.",
        answers.ChatCompletion,
        body=schema.ChatCompletionRequest,
        streams=True,
    ),
    Operation(
        "post",
        "/v1/completions",
        "Continues texts.",
        answers.Completion,
        body=schema.CompletionRequest,
        streams=True,
    ),
    Operation("get", "/v1/models", "Lists the models that answer.", answers.ModelList),
    Operation("get", "/v1/models/{model}", "Gets a model.", answers.ModelObject),
    Operation("delete", "/v1/models/{model}", "Deletes a model.", answers.ModelDeleted),
)
"""In the order of the routes."""
