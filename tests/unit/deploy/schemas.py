"""Kubernetes' own schemas, strict: a field that it doesn't know is an error. The package's own
function reads all of them again for every manifest."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

VERSIONS = ("1.30.0", "1.37.0")
"""The oldest that the chart is for, and the newest that has schemas here."""


def validate(manifest: dict[str, Any], version: str) -> None:
    """Raises `jsonschema.ValidationError`."""
    group, _, number = manifest["apiVersion"].rpartition("/")
    prefix = f"{group.partition('.')[0]}-{number}" if group else number
    _validator(f"{manifest['kind'].lower()}-{prefix}.json", version).validate(manifest)


@cache
def _validator(name: str, version: str) -> Draft202012Validator:
    return Draft202012Validator(_read(name, version), registry=_definitions(version))


@cache
def _definitions(version: str) -> Any:
    name = "_definitions.json"
    return Registry().with_resource(name, Resource.from_contents(_read(name, version))).crawl()


def _read(name: str, version: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"
    return json.loads((folder / name).read_text())
