"""docs/configuration.md names every key."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from services.settings import DatasetSettings, ModelSettings, Settings, TritonModelSettings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def keys(section: type[Any]) -> Iterator[str]:
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from keys(hint)  # type: ignore[arg-type]
        elif get_origin(hint) is not Mapping:
            yield field.name


def test_every_key_is_on_the_page() -> None:
    page = PAGE.read_text()
    tables = (Settings, ModelSettings, DatasetSettings, TritonModelSettings)
    everything = [key for table in tables for key in keys(table)]
    missing = {key for key in everything if f"`{key}`" not in page}
    assert not missing - {"api_tokens", "service_token"}
