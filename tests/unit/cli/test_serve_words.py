"""What `penstock serve` says of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.serve import counted_apart
from services.settings import load


@pytest.mark.parametrize(
    ("config", "apart"),
    [
        ("", False),
        ("[api]\nmax_requests_per_minute = 5\n", False),
        ("[api]\nmax_tokens_per_minute = 5\n", True),
        ("[limits]\ntokens_per_day = 5\n", True),
        ("[limits]\ntokens_per_month = 5\n", True),
        ('[limits]\ntokens_per_day = 5\n[redis]\nurl = "redis://127.0.0.1"\n', False),
    ],
)
def test_limits_that_are_counted_apart(tmp_path: Path, config: str, apart: bool) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(config)
    assert counted_apart(load(file, env={})) is apart
