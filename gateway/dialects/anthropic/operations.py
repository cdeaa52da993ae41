"""What the dialect serves, for the OpenAPI document."""

from gateway.dialects.anthropic import answer_schema as answers
from gateway.dialects.anthropic import schema
from gateway.dialects.anthropic.envelope import PATH
from gateway.openapi import Operation

OPERATIONS = (
    Operation(
        "post",
        PATH,
        "Answers a conversation, for Anthropic's clients.",
        answers.MessageAnswer,
        body=schema.MessagesRequest,
        streams=True,
        error=answers.MessageError,
    ),
    Operation(
        "post",
        f"{PATH}/count_tokens",
        "Counts the tokens of a conversation, for Anthropic's clients.",
        answers.TokenCount,
        body=schema.CountTokensRequest,
        error=answers.MessageError,
    ),
)
"""In the order of the routes."""
