"""Forms over gRPC, where all kinds of guides can be asked for."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import jsonschema
import pytest
from penstock.inference.v1 import event_pb2, inference_service_pb2_grpc, message_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as pb

from tests.e2e.stack import Platform

SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "level": {"type": "integer", "maximum": 9}},
    "required": ["on"],
    "additionalProperties": False,
}
GUIDES: dict[str, tuple[dict[str, Any], Any]] = {
    "regex": ({"regex": r"(yes|no), \d{2}[.]"}, r"(yes|no), \d{2}[.]"),
    "gbnf": (
        {"gbnf": 'root ::= "(" root ")" | word\nword ::= [a-z]{2,5}'},
        r"\(*[a-z]{2,5}\)*",
    ),
    "json_schema": ({"json_schema": json.dumps(SCHEMA)}, SCHEMA),
}


@pytest.mark.parametrize("kind", GUIDES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guides(platform: Platform, kind: str, temperature: float) -> None:
    guide, form = GUIDES[kind]
    sampling = sampling_pb2.Sampling(temperature=temperature, max_tokens=80, seed=1)
    message = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Tell me")]
    )
    requests = (
        ("Chat", pb.ChatRequest(messages=[message])),
        ("Complete", pb.CompleteRequest(prompts=[pb.Prompt(text="Tell me")])),
    )
    with grpc.insecure_channel(platform.address("inference")) as channel:
        stub: Any = inference_service_pb2_grpc.InferenceServiceStub(channel)
        for method, request in requests:
            request.model = "penstock-starter"
            request.sampling.CopyFrom(sampling)
            request.guide.CopyFrom(sampling_pb2.Guide(**guide))
            metadata = (("authorization", f"Bearer {platform.key}"),)
            answer = getattr(stub, method)(request, metadata=metadata, timeout=60)
            [choice] = answer.choices
            text = choice.text if method == "Complete" else choice.message.parts[0].text
            if choice.finish_reason != event_pb2.FINISH_REASON_STOP:
                assert kind == "gbnf"  # the only form here that may be longer
            elif kind == "json_schema":
                jsonschema.validate(json.loads(text), form)
            else:
                assert re.fullmatch(form, text)
                assert text.count("(") == text.count(")")
