"""Settings of a model as `KEY=VALUE` words."""

import difflib
import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict, ParseError
from penstock.model.v1 import model_pb2

from services.cli.failures import Failure, UsageFailure

_FIELDS: dict[str, FieldDescriptor] = {
    field.name: field
    for field in model_pb2.ModelConfig.DESCRIPTOR.fields
    if field.name not in {"name", "etag"}
}


def apply_settings(words: Sequence[str]) -> tuple[model_pb2.ModelConfig, FieldMask]:
    """Returns the settings that the words give, and the names they touch.

    Raises Failure for a wrong word.
    """
    config = model_pb2.ModelConfig()
    mask = FieldMask()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise _wrong(f"{word!r} is not KEY=VALUE.", word)
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(_FIELDS)}."
            raise _wrong(f"There is no setting {name!r}.", name, hint)
        if name not in mask.paths:
            mask.paths.append(name)
        config.ClearField(name)  # pyright: ignore[reportArgumentType]  # names come from the descriptor
        if value:
            _set(config, _FIELDS[name], value)
    return config, mask


def config_facts(config: model_pb2.ModelConfig) -> dict[str, str]:
    """Returns settings as people read them; what isn't set is shown as its default."""
    facts: dict[str, str] = {}
    for name, field in _FIELDS.items():
        value: Any = getattr(config, name)
        if field.is_repeated:
            facts[name] = json.dumps(list(value), ensure_ascii=False) if value else "–"
        elif field.has_presence:
            facts[name] = f"{value:g}" if config.HasField(name) else "–"  # pyright: ignore[reportArgumentType]
        else:
            facts[name] = str(value) or "–"
    facts["etag"] = config.etag
    return facts


def _set(config: model_pb2.ModelConfig, field: FieldDescriptor, text: str) -> None:
    value: Any = text
    if field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
        try:
            value = json.loads(text)
        except ValueError:
            expected = "a JSON list" if field.is_repeated else "a number"
            raise _wrong(f"{field.name} must be {expected}, not {text!r}.", field.name) from None
    try:
        ParseDict({field.name: value}, config)
    except ParseError:
        expected = "a JSON list of texts" if field.is_repeated else "a number of its range"
        raise _wrong(f"{field.name} must be {expected}, not {text!r}.", field.name) from None


def _wrong(message: str, field: str, hint: str = "") -> Failure:
    return UsageFailure(message, hint=hint, field=field)
