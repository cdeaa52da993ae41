"""Who reads the environment: what loads settings, and modules that are named after it."""

from __future__ import annotations

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("policy", "telemetry", "services", "gateway")
LOADERS = {"services/settings_loader.py", "gateway/settings.py"}


def reads(path: Path) -> bool:
    """Whether a module takes the environment from `os`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = {node.attr} if node.value.id == "os" else set()
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names}
        else:
            continue
        if names & {"environ", "environb", "getenv", "getenvb", "putenv"}:
            return True
    return False


def test_nobody_else_reads_the_environment() -> None:
    paths = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]
    readers = {path.relative_to(REPOSITORY) for path in paths if reads(path)}
    assert {str(path) for path in readers} >= LOADERS, "this test sees who does"
    assert {str(path) for path in readers if path.stem != "environment"} == LOADERS
