"""The validation rules in the protos: they compile, and they say what the comments say."""

import importlib
import pkgutil
from collections.abc import Iterator

import penstock
import protovalidate
import pytest
from google.protobuf import duration_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import Message
from penstock.embedding.v1 import embedding_service_pb2 as embedding
from penstock.image.v1 import image_pb2 as image
from penstock.inference.v1 import inference_service_pb2 as inference
from penstock.retrieval.v1 import collection_pb2 as collection
from penstock.retrieval.v1 import retrieval_service_pb2 as retrieval
from penstock.retrieval.v1 import search_pb2 as search
from penstock.training.v1 import job_pb2 as job
from penstock.training.v1 import training_service_pb2 as training


def files() -> Iterator[FileDescriptor]:
    for module in pkgutil.walk_packages(penstock.__path__, "penstock."):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(module.name).DESCRIPTOR


def with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for inner in message.nested_types:
        if not inner.GetOptions().map_entry:
            yield from with_nested(inner)


MESSAGES = [
    found
    for file in files()
    for message in file.message_types_by_name.values()
    for found in with_nested(message)
]


def broken_rules(message: Message) -> set[str]:
    violations = protovalidate.collect_violations(message)
    return {violation.proto.rule_id for violation in violations}


@pytest.mark.parametrize("descriptor", MESSAGES, ids=lambda descriptor: descriptor.full_name)
def test_rules_compile(descriptor: Descriptor) -> None:
    message = message_factory.GetMessageClass(descriptor)()
    protovalidate.collect_violations(message)  # raises CompilationError for a bad rule


GOOD: list[tuple[type[Message], dict[str, object]]] = [
    (
        inference.ChatRequest,
        {"model": "m", "messages": [{"role": "ROLE_USER", "parts": [{"text": "hi"}]}]},
    ),
    (embedding.EmbedRequest, {"model": "models/a/b:c", "inputs": [{"text": "x"}]}),
    (embedding.RerankRequest, {"query": "q", "documents": ["d"]}),
    (image.ImageRequest, {"prompt": ""}),
    (image.ImageRequest, {"seed": "-1", "width": 512, "height": 512, "jobId": "task(a1)"}),
    (image.ImageRequest, {"initImages": ["aaaa"], "inpainting": {"mask": "aaaa"}}),
    (
        training.StartJobRequest,
        {"job": {"baseModel": "m", "trainingFile": "files/file-a", "suffix": "My company"}},
    ),
    (
        training.UploadFileRequest,
        {"header": {"filename": "train.jsonl", "purpose": "FILE_PURPOSE_FINE_TUNE"}},
    ),
    (training.UploadFileRequest, {"chunk": ""}),
    (training.ListJobsRequest, {}),
    (retrieval.CreateCollectionRequest, {"parent": "tenants/a", "collection": {}}),
    (
        retrieval.CreateCollectionRequest,
        {"parent": "tenants/a", "collection": {}, "collectionId": "default::Astronomy"},
    ),
    (
        retrieval.GetDocumentRequest,
        {"name": "tenants/a/collections/b/documents/docs/readme.md"},
    ),
    (
        retrieval.SearchRequest,
        {
            "collection": "tenants/a/collections/b",
            "text": "q",
            "filter": {
                "comparison": {"property": "year", "operator": "OPERATOR_IN", "value": [1, 2]}
            },
        },
    ),
    (
        retrieval.AnswerRequest,
        {
            "parent": "tenants/a",
            "model": "m",
            "query": "q",
            "context": {"expression": "select Astronomy"},
            "prompt": {},
        },
    ),
]


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_good_requests_pass(kind: type[Message], value: dict[str, object]) -> None:
    assert broken_rules(json_format.ParseDict(value, kind())) == set()


BAD: list[tuple[Message, str]] = [
    (embedding.EmbedRequest(inputs=[{"text": "x"}]), "string.min_len"),
    (embedding.EmbedRequest(model="m"), "repeated.min_items"),
    (embedding.EmbedRequest(model="m", inputs=[{"text": ""}]), "string.min_len"),
    (embedding.EmbedRequest(model="m", inputs=[{}]), "required"),
    (
        embedding.EmbedRequest(model="m", inputs=[{"token_ids": {"ids": [-1]}}]),
        "int32.gte",
    ),
    (embedding.EmbedRequest(model="m", inputs=[{"text": "x"}] * 2049), "repeated.max_items"),
    (
        embedding.EmbedRequest(model="m", inputs=[{"text": "x"}], dimensions=0),
        "int32.gte_lte",
    ),
    (image.ImageRequest(width=513), "image_request.width"),
    (image.ImageRequest(height=1), "int32.gte_lte"),
    (image.ImageRequest(steps=0), "int32.gte_lte"),
    (image.ImageRequest(seed=-2), "int64.gte_lt"),
    (image.ImageRequest(cfg_scale=float("nan")), "float.gte_lte"),
    (image.ImageRequest(job_id="a/b"), "string.pattern"),
    (image.ImageRequest(inpainting={"mask": b"x"}), "image_request.inpainting"),
    (image.ImageRequest(hires={}, init_images=[b"x"]), "image_request.hires"),
    (job.Job(training_file="files/a"), "string.min_len"),
    (job.Job(base_model="m"), "required"),
    (job.Job(base_model="m", training_file="../etc"), "string.pattern"),
    (job.Job(base_model="m", training_dataset="d", suffix="x" * 65), "string.max_len"),
    (
        job.Hyperparameters(learning_rate=0.1, learning_rate_multiplier=1),
        "hyperparameters.learning_rate",
    ),
    (training.FileHeader(filename="a/b", purpose=1), "string.pattern"),
    (training.FileHeader(filename="..", purpose=1), "string.not_in"),
    (training.FileHeader(filename="a\nb", purpose=1), "string.pattern"),
    (training.FileHeader(filename="a", purpose=2), "enum.not_in"),
    (
        training.FileHeader(filename="a", purpose=1, time_to_live=duration_pb2.Duration(seconds=1)),
        "duration.gte_lte",
    ),
    (training.UploadFileRequest(), "required"),
    (training.UploadFileRequest(chunk=b"x" * 4194305), "bytes.max_len"),
    (
        training.ListJobsRequest(after="trainingJobs/a", page_token="t"),
        "list_jobs_request.after",
    ),
    (training.ListFilesRequest(order_by="size"), "string.in"),
    (collection.Chunking(max_tokens=16, overlap_tokens=16), "chunking.overlap_tokens"),
    (retrieval.CreateCollectionRequest(parent="tenants/a"), "required"),
    (
        retrieval.CreateCollectionRequest(parent="tenants/a", collection={}, collection_id="a/b"),
        "string.pattern",
    ),
    (
        retrieval.UpdateCollectionRequest(collection={"name": "a"}),
        "update_collection_request.name",
    ),
    (
        retrieval.DeleteDocumentsRequest(parent="tenants/a/collections/b"),
        "delete_documents_request.names",
    ),
    (retrieval.SearchRequest(collection="tenants/a/collections/b"), "required"),
    (search.Filter(), "required"),
    (search.Vector(values=b"12345"), "vector.values"),
]


@pytest.mark.parametrize(("message", "rule"), BAD)
def test_bad_requests_break_the_rule(message: Message, rule: str) -> None:
    assert rule in broken_rules(message)
