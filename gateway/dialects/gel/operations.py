"""What the dialect serves, for the OpenAPI document: one of four prefixes that mean the same."""

from gateway.dialects.gel import answer_schema as answers
from gateway.dialects.gel import schema
from gateway.openapi import Operation

_PLAIN = (400, 401, 403, 404)

OPERATIONS = (
    Operation(
        "post",
        "/branch/{branch}/ai/embeddings",
        "Turns texts into vectors, for Gel's clients.",
        answers.BranchEmbeddings,
        body=schema.BranchEmbeddingsRequest,
        error=answers.GelError,
        plain_errors=_PLAIN,
    ),
    Operation(
        "post",
        "/branch/{branch}/ai/rag",
        "Answers a question from a branch's documents, for Gel's clients.",
        answers.Rag,
        body=schema.RagRequest,
        streams=True,
        error=answers.GelError,
        plain_errors=_PLAIN,
    ),
)
"""In the order of the routes."""
