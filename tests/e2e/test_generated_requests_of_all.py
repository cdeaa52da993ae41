"""Requests generated from the OpenAPI document itself, over every route: never a status or a type
that the document does not name, never a 500, never an answer that its schema does not describe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.description import description
from tests.e2e.stack import Platform, configuration, running

MODELS = {
    "echo": {"path": "echo", "type": "chat"},
    "all-minilm-l6-v2": {"path": "echo", "type": "embedding"},
    "painter": {"path": "echo", "type": "image"},
}
ENGINES = "".join(
    f'[services.{name}]\nengine = "echo"\n' for name in ("inference", "embedding", "image")
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
DOCUMENT: BaseSchema = schemathesis.openapi.from_dict(description())
OPERATIONS = {found.ok().label: found.ok() for found in DOCUMENT.get_all_operations()}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("generated")
    with running(folder, configuration(MODELS, ENGINES)) as started:
        yield started


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation(label: str, ready: Platform) -> None:
    operation: APIOperation = OPERATIONS[label]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case: Case) -> None:
        # Right as it is, it would make right requests end in 504.
        case.headers.pop("X-Request-Timeout", None)
        case.call_and_validate(
            base_url=ready.url, headers=ready.headers(), checks=CHECKS, timeout=60
        )

    answers()
