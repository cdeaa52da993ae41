"""Rules of the protos become errors that name the field."""

import pytest
from penstock.inference.v1 import inference_service_pb2 as inference
from penstock.inference.v1 import message_pb2
from penstock.model.v1 import model_service_pb2 as model

from services.errors import DomainError, InvalidArgument, MissingField
from services.rpc.validation import validate


def chat(**changes: object) -> inference.ChatRequest:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Hi")])
    return inference.ChatRequest(**{"model": "m", "messages": [message], **changes})


def test_a_good_message_passes() -> None:
    validate(chat())
    validate(model.GetModelRequest(name="models/a"))


@pytest.mark.parametrize(
    ("request_", "cls", "fields"),
    [
        (model.GetModelRequest(), MissingField, ["name"]),
        (model.GetModelRequest(name="x"), InvalidArgument, ["name"]),
        (model.UpdateModelConfigRequest(), MissingField, ["config"]),
        (model.DeployModelRequest(), MissingField, ["model_id", "source", "kind"]),
        (
            model.DeployModelRequest(model_id="*", kind=99),
            MissingField,
            ["source", "model_id", "kind"],
        ),
        (
            model.SetModelAliasesRequest(name="models/a", aliases=["ok", "*"]),
            InvalidArgument,
            ["aliases[1]"],
        ),
        (inference.ChatRequest(), MissingField, ["model", "messages"]),
        (chat(messages=[message_pb2.Message()]), MissingField, ["messages[0].role"]),
        (
            chat(sampling={"temperature": 3, "logit_bias": {-7: 1.0}}),
            InvalidArgument,
            ["sampling.temperature", "sampling.logit_bias[-7]"],
        ),
        (chat(metadata={"k" * 400: "v"}), InvalidArgument, [f'metadata["{"k" * 64}"]']),
    ],
)
def test_fields_at_fault_are_named(request_, cls: type[DomainError], fields: list[str]) -> None:
    with pytest.raises(DomainError) as caught:
        validate(request_)
    error = caught.value
    assert type(error) is cls
    assert [violation.field for violation in error.violations] == fields
    assert error.message.startswith(f"'{fields[0]}': ")
    assert error.message.endswith(".")


def test_a_thousand_faults_are_told_in_short() -> None:
    with pytest.raises(InvalidArgument) as caught:
        validate(model.SetModelAliasesRequest(name="models/a", aliases=["*"] * 1000))
    assert len(caught.value.violations) <= 16
