"""What the dialect serves, for the OpenAPI document."""

from typing import Any

import msgspec

from gateway.dialects.open_inference import answer_schema as answers
from gateway.dialects.open_inference import schema
from gateway.dialects.open_inference.answers import BINARY
from gateway.dialects.open_inference.envelope import PREFIX
from gateway.openapi import Operation


def _operation(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    *,
    is_open: bool = False,
) -> Operation:
    return Operation(
        method,
        PREFIX + path,
        summary,
        answer,
        body=body,
        # No stream of events: the same answer, with its tensors behind the JSON.
        streams=body is not None,
        stream_type=BINARY,
        open=is_open,
        error=answers.OpenInferenceError,
    )


OPERATIONS = (
    _operation(
        "get", "/health/live", "Tells that it runs.", answers.OpenInferenceLive, is_open=True
    ),
    _operation(
        "get",
        "/health/ready",
        "Tells whether the inference service answers.",
        answers.OpenInferenceReady,
        is_open=True,
    ),
    _operation("get", "", "Tells what serves, for KServe's clients.", answers.OpenInferenceServer),
    *(
        operation
        for path in ("/models/{model}", "/models/{model}/versions/{version}")
        for operation in (
            _operation(
                "get",
                path,
                "Tells what a tensor model takes and gives.",
                answers.OpenInferenceModel,
            ),
            _operation(
                "get",
                f"{path}/ready",
                "Tells whether a model answers.",
                answers.OpenInferenceModelReady,
            ),
            _operation(
                "post",
                f"{path}/infer",
                "Runs a tensor model once, for KServe's and Triton's clients.",
                answers.OpenInferenceAnswer,
                schema.OpenInferenceRequest,
            ),
        )
    ),
)
"""What Triton adds is answered 501, and is not listed."""
