"""What the protos promise: which RPCs there are, and how they are reached over HTTP."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from penstock.embedding.v1 import embedding_service_pb2
from penstock.image.v1 import image_service_pb2
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import inference_service_pb2, response_service_pb2
from penstock.model.v1 import model_service_pb2
from penstock.retrieval.v1 import retrieval_service_pb2
from penstock.training.internal.v1 import batch_work_service_pb2
from penstock.training.v1 import batch_service_pb2, training_service_pb2

ROOT = Path(__file__).parents[3]
SERVICES: dict[str, ServiceDescriptor] = {
    service.name: service
    for module in (
        model_service_pb2,
        inference_service_pb2,
        response_service_pb2,
        embedding_service_pb2,
        image_service_pb2,
        training_service_pb2,
        batch_service_pb2,
        retrieval_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
}
METHODS: list[MethodDescriptor] = [
    method for service in SERVICES.values() for method in service.methods
]

# Every RPC, in its order; `>` streams the request, `<` the response.
SURFACE = {
    "ModelService": """
        ListModels GetModel DeployModel DeleteModel ListRevisions GetModelConfig UpdateModelConfig
        SetModelAliases GetStatus <WatchModels ReportModelState""",
    "InferenceService": """
        Chat <StreamChat Complete <StreamComplete Tokenize Detokenize ApplyTemplate GetRuntimeInfo
        Infer GetQueueStatus""",
    "ResponseService": """
        StoreResponse GetResponse DeleteResponse ListInputItems GetConversation BatchGetItems""",
    "EmbeddingService": """
        Embed Rerank GetQueueStatus""",
    "ImageService": """
        Generate <StreamGenerate Interrupt Skip GetProgress ListSamplers ListSchedulers
        ListCheckpoints GetOptions SetOptions ReadInfo GetQueueStatus""",
    "TrainingService": """
        StartJob GetJob ListJobs CancelJob PauseJob ResumeJob ListEvents <WatchJob ListCheckpoints
        >UploadFile GetFile ListFiles DeleteFile <DownloadFile""",
    "BatchService": """
        CreateBatch GetBatch ListBatches CancelBatch""",
    "RetrievalService": """
        CreateCollection GetCollection ListCollections UpdateCollection DeleteCollection
        ><UpsertDocuments GetDocument ListDocuments DeleteDocument DeleteDocuments
        PutPrompt GetPrompt ListPrompts DeletePrompt Search <Answer""",
}


def signature(method: MethodDescriptor) -> str:
    return ">" * method.client_streaming + "<" * method.server_streaming + method.name


def rules(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings] if rule.WhichOneof("pattern") else []


def verb_and_path(rule: http_pb2.HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern")
    assert verb is not None
    return verb, getattr(rule, verb)


def field(message: Descriptor, path: str) -> FieldDescriptor:
    first, _, rest = path.partition(".")
    found = message.fields_by_name[first]
    return field(found.message_type, rest) if rest else found


def messages(
    descriptor_set: descriptor_pb2.FileDescriptorSet,
) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
    def below(
        prefix: str, found: descriptor_pb2.DescriptorProto
    ) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
        name = f"{prefix}.{found.name}"
        yield name, found
        for inner in found.nested_type:
            if not inner.options.map_entry:
                yield from below(name, inner)

    for file in descriptor_set.file:
        if file.package.startswith("penstock."):
            for message in file.message_type:
                yield from below(file.package, message)


@pytest.fixture(scope="module")
def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Builds what Envoy's transcoder and clients of other languages read."""
    buf = Path(sys.executable).parent / "buf"
    built = subprocess.run(
        [buf, "build", "--as-file-descriptor-set", "--path", "protos/penstock", "-o", "-"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return descriptor_pb2.FileDescriptorSet.FromString(built.stdout)


def test_services_have_the_rpcs_of_the_contract() -> None:
    found = {
        name: [signature(method) for method in service.methods]
        for name, service in SERVICES.items()
    }
    assert found == {name: methods.split() for name, methods in SURFACE.items()}


def test_the_step_stream_is_internal() -> None:
    service = step_service_pb2.DESCRIPTOR.services_by_name["StepService"]
    assert [signature(method) for method in service.methods] == ["><StepStream"]
    assert service.full_name == "penstock.inference.internal.v1.StepService"
    assert rules(service.methods[0]) == []


def test_the_work_on_batches_is_internal() -> None:
    service = batch_work_service_pb2.DESCRIPTOR.services_by_name["BatchWorkService"]
    assert service.full_name == "penstock.training.internal.v1.BatchWorkService"
    assert [rules(method) for method in service.methods] == [[]] * 6


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_rpc_is_reached_over_http(method: MethodDescriptor) -> None:
    assert rules(method), "no google.api.http annotation"
    for rule in rules(method):
        verb, path = verb_and_path(rule)
        assert path.startswith("/penstock/v1/")
        variables = [name.partition("=")[0] for name in re.findall(r"\{([^}]+)\}", path)]
        for variable in variables:
            assert field(method.input_type, variable).type == FieldDescriptor.TYPE_STRING
        assert bool(rule.body) == (verb in {"post", "put", "patch"})
        if rule.body and rule.body != "*":
            assert field(method.input_type, rule.body).type == FieldDescriptor.TYPE_MESSAGE


def test_no_two_rpcs_share_a_path() -> None:
    bound = Counter(
        (verb, re.sub(r"\{[^=}]+", "{", path))
        for method in METHODS
        for verb, path in map(verb_and_path, rules(method))
    )
    assert [shared for shared, count in bound.items() if count > 1] == []


def test_lists_have_pages() -> None:
    for method in METHODS:
        if method.name.startswith("List"):
            assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
            assert "next_page_token" in method.output_type.fields_by_name


def test_the_descriptor_set_stands_by_itself(
    descriptor_set: descriptor_pb2.FileDescriptorSet,
) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_set.file:  # dependencies come first
        pool.Add(file)
    for service in SERVICES.values():
        assert pool.FindServiceByName(service.full_name).name == service.name


def test_no_field_is_unsigned(descriptor_set: descriptor_pb2.FileDescriptorSet) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    unsigned = {
        kinds.TYPE_UINT32,
        kinds.TYPE_UINT64,
        kinds.TYPE_FIXED32,
        kinds.TYPE_FIXED64,
    }
    found = [
        f"{name}.{entry.name}"
        for name, message in messages(descriptor_set)
        for entry in message.field
        if entry.type in unsigned
    ]
    assert found == []
