"""Renders Envoy's bootstraps from their one source, and the descriptor set of the protos that they
read: `make envoy`. With `--check` nothing is written: the command fails when a bootstrap that is
committed is not what the source says."""

import re
import sys
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.settings import SERVICE_PORTS

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parent / "protos" / "penstock"
AREAS = {service: service for service in SERVICE_PORTS} | {"access": "model"}
"""Which process serves the services of which area of the protos."""
INTERNAL = (
    "prefix: /penstock.inference.internal.",
    "prefix: /penstock.training.internal.",
    "path: /penstock.model.v1.ModelService/ReportModelState",
    "path: /penstock.access.v1.KeyService/WatchKeys",
    "path: /penstock.access.v1.UsageService/RecordUsage",
)


def transcoded() -> list[str]:
    """Full names of the public services, as the protos declare them."""
    return sorted(
        f"penstock.{path.parent.parent.name}.v1.{name}"
        for path in PROTOS.glob("*/v1/*.proto")
        for name in re.findall(r"^service (\w+) {", path.read_text("utf-8"), re.MULTILINE)
    )


def rendered(*, mtls: bool) -> str:
    """A bootstrap."""
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("bootstrap.yaml.j2").render(
        mtls=mtls, ports=SERVICE_PORTS, areas=AREAS, internals=INTERNAL, transcoded=transcoded()
    )


def main() -> int:
    """Renders, or checks."""
    stale: list[str] = []
    for name, mtls in (("bootstrap.yaml", False), ("bootstrap-mtls.yaml", True)):
        path, text = HERE / name, rendered(mtls=mtls)
        if "--check" not in sys.argv:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(name)
    if stale:
        print(f"envoy/: {', '.join(stale)} differ from their source. Run `make envoy`.")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
