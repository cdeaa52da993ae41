"""Asks a process of the platform whether it serves: `python -m services.rpc.probe NAME`.

For containers without a shell, and for probes of Kubernetes where mutual TLS keeps its own out. It
reads the settings that the process reads, so it needs no address and no certificate of its own. It
imports little: an orchestrator runs it every few seconds.
"""

import argparse
import http.client
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from policy.pem_files import PemFiles, TlsFileError
from services.rpc.transport import channel_credentials
from services.settings import ServiceName, Settings, SettingsError, load

EDGE = "gateway"
NAMES = (*get_args(ServiceName), EDGE)
"""Whom it can ask."""
TIMEOUT_S = 2.0
_NOT_SERVING = 1
_WRONG = 2
_SERVING = cast("Any", health_pb2).HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Answer:
    """What a process said, or why it said nothing."""

    serving: bool
    words: str
    """For people and for the orchestrator's log."""


def probe(
    name: str,
    settings: Settings,
    *,
    ready: bool = False,
    model: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Asks a process. It is alive when it answers for itself; `ready` asks whether its service
    can do its work, or, of the edge, whether the services that it needs are there. `model` asks
    whether it serves that one; the edge, which has none, is asked as for `ready`.

    Raises:
        TlsFileError: a certificate of the settings can't be read.
    """
    if name == EDGE:
        return _edge(_local(settings.api.address), ready or bool(model), timeout_s)
    service = f"penstock.{name}.v1.{name.capitalize()}Service" if ready else ""
    asked = f"models/{model}" if model else service
    return _service(cast("ServiceName", name), settings, asked, timeout_s)


def _service(name: ServiceName, settings: Settings, service: str, timeout_s: float) -> Answer:
    own = settings.services.of(name)
    request = cast("Any", health_pb2).HealthCheckRequest(service=service)
    others_say = own.target.rpartition("/")[2].rpartition(":")[0]  # of dns:///host:port too
    with _channel(_local(own.address), settings, others_say) as channel:
        stub = cast("Any", health_pb2_grpc).HealthStub(channel)
        try:
            answer = stub.Check(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            code, details = cast("Any", error).code(), cast("Any", error).details()
            return Answer(False, f"{own.address}: {code.name}: {details}")
    status = cast("Any", health_pb2).HealthCheckResponse.ServingStatus.Name(answer.status)
    return Answer(answer.status == _SERVING, status)


def _channel(address: str, settings: Settings, server_name: str) -> grpc.Channel:
    tls = settings.tls
    if tls.certificate is None:
        return grpc.insecure_channel(address)
    if tls.client_ca is None:
        files = PemFiles(ca=tls.certificate)
    else:
        files = PemFiles(ca=tls.client_ca, certificate=tls.certificate, key=tls.key)
    credentials = channel_credentials(files.read())
    # It calls this machine; the certificate is for the name that others call.
    options = [("grpc.ssl_target_name_override", server_name)]
    return grpc.secure_channel(address, credentials, options=options)


def _edge(address: str, ready: bool, timeout_s: float) -> Answer:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout_s)
    try:
        # For itself it answers at once, however long its services take.
        connection.request("GET", "/health" if ready else "/v2/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Answer(False, f"{address}: {error}")
    finally:
        connection.close()
    return Answer(status == 200 or not ready, f"HTTP {status}")


def _local(address: str) -> str:
    """Returns where this machine reaches what listens on an address."""
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host in ('', '0.0.0.0', '[::]') else host}:{port}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where the process serves, 1 where it does not, 2 where it can't be asked."""
    parser = argparse.ArgumentParser(prog="python -m services.rpc.probe", description="Asks.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    parser.add_argument("--ready", action="store_true", help="ask whether it can do its work")
    parser.add_argument("--model", default="", metavar="ID", help="ask whether it serves a model")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    given = parser.parse_args(arguments)
    try:
        settings = load(given.config)
        answer = probe(
            given.name,
            settings,
            ready=given.ready,
            model=given.model,
            timeout_s=given.timeout,
        )
    except (SettingsError, TlsFileError) as error:
        print(f"{given.name}: {error}", file=sys.stderr)
        return _WRONG
    print(f"{given.name}: {answer.words}", file=sys.stdout if answer.serving else sys.stderr)
    return 0 if answer.serving else _NOT_SERVING


if __name__ == "__main__":
    sys.exit(main())
