"""Renders Envoy's bootstraps from their one source: `make envoy` writes the two that are committed.

Others are printed: `envoy/render.py --mtls --http3 --otlp collector:4317 > mine.yaml`; `--help`
names all options. With `--check` nothing is written: the command fails when a bootstrap that is
committed is not what the source says.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.settings import SERVICE_PORTS

HERE = Path(__file__).resolve().parent
PROTOS = HERE.parent / "protos" / "penstock"
EDGE, EDGE_PORT = "edge", 8080
AREAS = {service: service for service in SERVICE_PORTS} | {"access": "model"}
"""Which process serves the services of which area of the protos."""
PREFIXES = {f"/penstock.{area}.v1.": service for area, service in AREAS.items()} | {
    # tritonclient and KServe say it so.
    "/inference.GRPCInferenceService/": "inference"
}
INTERNAL = (
    "prefix: /penstock.inference.internal.",
    "prefix: /penstock.training.internal.",
    "path: /penstock.model.v1.ModelService/ReportModelState",
    "path: /penstock.access.v1.KeyService/WatchKeys",
    "path: /penstock.access.v1.UsageService/RecordUsage",
)
STATUSES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    408: 4,
    413: 8,
    415: 3,
    429: 8,
    500: 13,
    503: 14,
    504: 4,
}
"""Codes of gRPC for those of HTTP that Envoy answers with by itself."""


@dataclass(frozen=True, kw_only=True)
class Jwt:
    """Whose signed tokens are let in."""

    issuer: str
    audience: str = "penstock"
    jwks_file: str = ""
    """The issuer's keys, in a file that is read once; or"""
    jwks_url: str = ""
    """where they are fetched."""
    cache_s: int = 60
    """How long fetched keys are kept. Fetched they are before they are needed."""
    leeway_s: int = 60

    @property
    def is_https(self) -> bool:
        """Whether the keys are fetched over TLS."""
        return self.jwks_url.startswith("https:")

    @property
    def address(self) -> str:
        """Host and port of where the keys are fetched."""
        url = urlsplit(self.jwks_url)
        return f"{url.hostname}:{url.port or (443 if self.is_https else 80)}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a bootstrap is rendered for."""

    mtls: bool = False
    """TLS to callers, mutual TLS with SPIFFE names to services."""
    listen: str = ""
    """Where it listens. Default: 127.0.0.1:8000, or 0.0.0.0:8443 with `mtls`."""
    admin: str = "127.0.0.1:9901"
    """Where operators ask it. Nobody else may reach this."""
    endpoints: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """Where services and the edge are, as host:port; a name may stand for many addresses.
    Default: 127.0.0.1, or penstock-<service> with `mtls`, and their own ports."""
    descriptor: str = "envoy/penstock.binpb"
    """The protos' descriptor set."""
    secrets: str = "envoy/secrets"
    """Folder of the files that say where certificates lie."""
    trust_domain: str = "penstock"
    """The service <name> shows the SPIFFE ID spiffe://<trust domain>/<name>."""
    http3: bool = False
    """Listens for HTTP/3 too, on the same port. Needs `mtls`."""
    jwt: Jwt | None = None
    """Turns wrong signed tokens away."""
    requests_per_minute: int = 0
    """Most requests from one address. 0: any number."""
    otlp: str = ""
    """Collector of traces (OTLP over gRPC), as host:port. Empty: no spans of Envoy's own."""
    trace_percent: float = 100.0
    """How many of the requests that bring no decision of their own are traced."""
    stream_idle_s: float = 900.0
    """Longest silence of a stream."""
    most_requests: int = 4096
    """Most requests that run at a service at once; the edge may have four times as many."""
    ejection_s: float = 10.0
    """How long one that fails is left out, the first time."""
    outlier_interval_s: float = 5.0
    """How often it is looked whether one may come back."""
    max_body_bytes: int = 65 * 1024 * 1024
    """Largest request, and largest answer, that JSON is made from or of."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for what goes together in no bootstrap."""
        if self.http3 and not self.mtls:
            raise ValueError("HTTP/3 needs certificates: render with mtls")
        if self.jwt is not None and bool(self.jwt.jwks_file) == bool(self.jwt.jwks_url):
            raise ValueError("a JWT issuer needs either a file of its keys, or their URL")
        unknown = self.endpoints.keys() - SERVICE_PORTS.keys() - {EDGE}
        if unknown:
            raise ValueError(f"no such service: {', '.join(sorted(unknown))}")
        if not self.listen:
            object.__setattr__(self, "listen", "0.0.0.0:8443" if self.mtls else "127.0.0.1:8000")

    def addresses(self, service: str) -> Sequence[str]:
        """Returns where a service is, or the edge."""
        name = "gateway" if service == EDGE else service
        host = f"penstock-{name}" if self.mtls else "127.0.0.1"
        port = EDGE_PORT if service == EDGE else SERVICE_PORTS[service]
        return self.endpoints.get(service) or (f"{host}:{port}",)


COMMITTED = {"bootstrap.yaml": Options(), "bootstrap-mtls.yaml": Options(mtls=True)}


def transcoded() -> list[str]:
    """Full names of the public services, as the protos declare them."""
    return sorted(
        f"penstock.{path.parent.parent.name}.v1.{name}"
        for path in PROTOS.glob("*/v1/*.proto")
        for name in re.findall(r"^service (\w+) {", path.read_text("utf-8"), re.MULTILINE)
    )


def reads() -> dict[str, list[str]]:
    """Methods that may be repeated, by service: those that the service config repeats."""
    config = json.loads((PROTOS / "service_config.json").read_text("utf-8"))
    found: dict[str, list[str]] = {}
    for entry in config["methodConfig"]:
        for name in entry["name"] if "retryPolicy" in entry else ():
            found.setdefault(name["service"], []).append(name["method"])
    return found


def rendered(options: Options) -> str:
    """Returns a bootstrap."""
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("bootstrap.yaml.j2").render(
        o=options,
        services=list(SERVICE_PORTS),
        addresses=options.addresses,
        areas=AREAS,
        prefixes=PREFIXES,
        internals=INTERNAL,
        transcoded=transcoded(),
        reads=reads(),
        statuses=STATUSES,
        host=_host,
        port=_port,
    )


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes, checks or prints."""
    parser = argparse.ArgumentParser(description="Render a bootstrap of Envoy.")
    parser.add_argument("--check", action="store_true", help="fail if a committed one is stale")
    parser.add_argument("--mtls", action="store_true", help="TLS, and mutual TLS to services")
    parser.add_argument("--http3", action="store_true", help="HTTP/3 too, on the same port")
    parser.add_argument("--listen", metavar="HOST:PORT", default="")
    parser.add_argument("--admin", metavar="HOST:PORT", default=Options().admin)
    parser.add_argument(
        "--endpoint",
        metavar="SERVICE=HOST:PORT",
        action="append",
        default=[],
        help="where a service is, or the edge; again for each replica",
    )
    parser.add_argument("--descriptor", metavar="FILE", default=Options().descriptor)
    parser.add_argument("--secrets", metavar="FOLDER", default=Options().secrets)
    parser.add_argument("--trust-domain", default=Options().trust_domain)
    parser.add_argument("--jwt-issuer", metavar="URL", help="let in signed tokens of this issuer")
    parser.add_argument("--jwt-audience", default=Jwt(issuer="").audience)
    parser.add_argument("--jwks", metavar="FILE|URL", default="", help="the issuer's keys")
    parser.add_argument("--requests-per-minute", metavar="N", type=int, default=0)
    parser.add_argument("--otlp", metavar="HOST:PORT", default="", help="collector of traces")
    parser.add_argument("--trace-percent", type=float, default=Options().trace_percent)
    arguments = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(arguments)
    if given.check and len(arguments) > 1:
        parser.error("--check is about the two that are committed: give nothing beside it")
    if given.check or not arguments:
        found = {HERE / name: rendered(options) for name, options in COMMITTED.items()}
        return kept(found, HERE, check=given.check)
    try:
        print(rendered(_options(given)), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


def _options(given: argparse.Namespace) -> Options:
    endpoints: dict[str, list[str]] = {}
    for text in given.endpoint:
        service, _, address = text.partition("=")
        if not re.fullmatch(r".+:\d+", address):
            raise ValueError(f"--endpoint must be like inference=host:50052, not {text!r}")
        endpoints.setdefault(service, []).append(address)
    jwt = None
    if given.jwks and not given.jwt_issuer:
        raise ValueError("--jwks are somebody's keys: name them by --jwt-issuer")
    if given.jwt_issuer:
        is_url = "://" in given.jwks
        jwt = Jwt(
            issuer=given.jwt_issuer,
            audience=given.jwt_audience,
            jwks_file="" if is_url else given.jwks,
            jwks_url=given.jwks if is_url else "",
        )
    names = ("mtls", "http3", "listen", "admin", "descriptor", "secrets", "trust_domain")
    more = ("requests_per_minute", "otlp", "trace_percent")
    rest = {name: getattr(given, name) for name in (*names, *more)}
    return Options(endpoints=endpoints, jwt=jwt, **rest)


def kept(files: Mapping[Path, str], folder: Path, *, check: bool) -> int:
    """Writes files below a folder, or checks that they are so; returns the exit status."""
    stale: list[str] = []
    for path, text in files.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            stale.append(str(path.relative_to(folder)))
    if stale:
        print(f"{folder.name}/: {', '.join(stale)} differ from their source. Run `make envoy`.")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
