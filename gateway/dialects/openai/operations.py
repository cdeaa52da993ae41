"""What the dialect serves, for the OpenAPI document."""

from dataclasses import replace

import msgspec

from gateway.dialects.openai import answer_schema as answers
from gateway.dialects.openai import embedding_schema as embeddings
from gateway.dialects.openai import schema
from gateway.dialects.openai import vector_store_schema as stores
from gateway.dialects.openai.batch_operations import BATCH_OPERATIONS
from gateway.dialects.openai.deployment_operations import DEPLOYMENT_OPERATIONS
from gateway.dialects.openai.file_operations import FILE_OPERATIONS
from gateway.dialects.openai.fine_tuning_operations import FINE_TUNING_OPERATIONS
from gateway.dialects.openai.image_operations import IMAGE_OPERATIONS
from gateway.dialects.openai.response_operations import RESPONSE_OPERATIONS
from gateway.openapi import Operation

CHAT = Operation(
    "post",
    "/v1/chat/completions",
    "Answers a conversation.",
    answers.ChatCompletion,
    body=schema.ChatCompletionRequest,
    streams=True,
)
COMPLETION = Operation(
    "post",
    "/v1/completions",
    "Continues texts.",
    answers.Completion,
    body=schema.CompletionRequest,
    streams=True,
)
EMBEDDINGS = Operation(
    "post",
    "/v1/embeddings",
    "Turns texts into vectors.",
    embeddings.EmbeddingList,
    body=embeddings.EmbeddingsRequest,
)

PROMPT = Operation(
    "post",
    "/apply-template",
    "Renders a conversation with the model's template.",
    answers.Prompt,
    body=schema.PromptRequest,
)
"""For other prefixes only."""

OPERATIONS = (
    CHAT,
    COMPLETION,
    *RESPONSE_OPERATIONS,
    EMBEDDINGS,
    Operation(
        "post",
        "/v1/rerank",
        "Orders documents by how well they answer a query.",
        embeddings.Reranking,
        body=embeddings.RerankRequest,
    ),
    Operation(
        "post",
        "/v2/rerank",
        "Orders documents, for clients of Cohere's second version.",
        embeddings.Reranking,
        body=embeddings.RerankRequest,
    ),
    *IMAGE_OPERATIONS,
    Operation(
        "post",
        "/v1/vector_stores",
        "Creates a vector store.",
        stores.VectorStore,
        body=stores.VectorStoreCreate,
    ),
    Operation(
        "get",
        "/v1/vector_stores",
        "Lists vector stores.",
        stores.VectorStoreList,
        query=stores.StoreListQuery,
    ),
    Operation(
        "get",
        "/v1/vector_stores/{vector_store_id}",
        "Gets a vector store.",
        stores.VectorStore,
    ),
    Operation(
        "post",
        "/v1/vector_stores/{vector_store_id}",
        "Changes a vector store.",
        stores.VectorStore,
        body=stores.VectorStoreUpdate,
    ),
    Operation(
        "delete",
        "/v1/vector_stores/{vector_store_id}",
        "Deletes a vector store with everything in it.",
        stores.VectorStoreDeleted,
    ),
    Operation(
        "post",
        "/v1/vector_stores/{vector_store_id}/search",
        "Finds passages.",
        stores.SearchResultsPage,
        body=stores.VectorStoreSearch,
    ),
    Operation(
        "get",
        "/v1/vector_stores/{vector_store_id}/files",
        "Lists the documents of a vector store.",
        stores.VectorStoreFileList,
        query=stores.FileListQuery,
    ),
    Operation(
        "post",
        "/v1/vector_stores/{vector_store_id}/files",
        "Puts an uploaded file into a vector store.",
        stores.VectorStoreFile,
        body=stores.VectorStoreFileCreate,
    ),
    Operation(
        "get",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}",
        "Gets a document of a vector store.",
        stores.VectorStoreFile,
    ),
    Operation(
        "delete",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}",
        "Deletes a document of a vector store.",
        stores.VectorStoreFileDeleted,
    ),
    Operation(
        "get",
        "/v1/vector_stores/{vector_store_id}/files/{file_id}/content",
        "Gets the text of a document.",
        stores.FileContentPage,
    ),
    *FILE_OPERATIONS,
    *FINE_TUNING_OPERATIONS,
    *BATCH_OPERATIONS,
    *DEPLOYMENT_OPERATIONS,
    Operation("get", "/v1/models", "Lists the models that answer.", answers.ModelList),
    Operation("get", "/v1/models/{model}", "Gets a model.", answers.ModelObject),
    Operation("delete", "/v1/models/{model}", "Deletes a model.", answers.ModelDeleted),
)
"""In the order of the routes."""


def chat_under(prefix: str, error: type[msgspec.Struct]) -> Operation:
    """The operation of chats under another prefix, which has errors of its own."""
    return replace(CHAT, path=f"{prefix}/chat/completions", error=error)


def embeddings_under(prefix: str, error: type[msgspec.Struct]) -> Operation:
    """The operation of embeddings under another prefix, where the model may be left out."""
    body = embeddings.AnyModelEmbeddingsRequest
    return replace(EMBEDDINGS, path=f"{prefix}/embeddings", body=body, error=error)
