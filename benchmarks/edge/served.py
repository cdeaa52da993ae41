"""Serves a reference edge exactly as the product serves its own: uvicorn, uvloop, httptools."""

import argparse
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import grpc
import uvicorn
from penstock.inference.v1 import inference_service_pb2_grpc

from benchmarks.edge.engine import OPTIONS
from benchmarks.processes import raise_file_limit

BACKLOG = 2048


class Engine:
    """The stub of the engine; made on the event loop, where grpc.aio wants to be."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stub: Any = None

    @property
    def stub(self) -> Any:
        """InferenceService."""
        if self._stub is None:
            channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
            self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        return self._stub


def serve(make_app: Callable[[Engine], Any]) -> None:
    """Serves until SIGTERM, on a free port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True)
    engine = Engine(parser.parse_args().engine)
    raise_file_limit()
    logging.basicConfig(level=logging.WARNING)
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    config = uvicorn.Config(
        make_app(engine),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    host, port = listener.getsockname()
    print(json.dumps({"address": f"{host}:{port}"}), flush=True)
    uvicorn.Server(config).run(sockets=[listener])
