"""The code that a python model in Triton runs: copies of this software's own engine modules.

They go into the model's folder with everything of this software that they import, so that the
environment of Triton needs only the libraries.
"""

import ast
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import services

_ROOT = Path(services.__file__).parent.parent
_PACKAGES = frozenset({"services", "telemetry", "policy"})
LIB = "lib"
"""Folder beside model.py."""


def vendored(module: str) -> dict[str, str]:
    """A module as `model.py`, and what it imports of this software, by path beside it."""
    found = {"model.py": _path(module).read_text("utf-8")}
    waiting = list(_imports(module))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not _exists(name):
            continue
        seen.add(name)
        path = _path(name)
        found[f"{LIB}/{path.relative_to(_ROOT).as_posix()}"] = path.read_text("utf-8")
        waiting += _imports(name)
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
    return found


def requirements(packages: Sequence[str]) -> str:
    """A requirements file with the versions that this software runs with."""
    lines = [f"{name}=={version(name).partition('+')[0]}" for name in packages]
    return "\n".join(
        ["# What the model needs in Triton's environment, beside Triton itself.", *lines]
    )


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(_path(module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in _PACKAGES)


def _exists(module: str) -> bool:
    return _path(module).is_file()


def _path(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
