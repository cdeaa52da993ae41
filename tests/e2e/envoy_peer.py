"""A gRPC server that behaves as a test says: what Envoy does with it is what is tested."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

Behaviour = Callable[[bytes, Any], Iterator[bytes]]
_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.SERVING
).SerializeToString()


def empty(_: bytes, __: Any) -> Iterator[bytes]:
    """Answers with a message of no fields."""
    yield b""


def refusing(code: grpc.StatusCode, text: str = "not now", times: int = 1 << 30) -> Behaviour:
    """Fails the first calls."""
    left = [times]

    def answer(_: bytes, context: Any) -> Iterator[bytes]:
        if left[0]:
            left[0] -= 1
            context.abort(code, text)
        yield b""

    return answer


class Held:
    """Streams one message, and the rest when it is let go."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages
        self.go = threading.Event()

    def __call__(self, _: bytes, __: Any) -> Iterator[bytes]:
        yield self._messages[0]
        self.go.wait(60)
        yield from self._messages[1:]


class Peer:
    """Serves any method of any service, in threads of its own; healthy while it runs."""

    def __init__(self, behaviour: Behaviour = empty) -> None:
        self.behaviour = behaviour
        self.calls = Counter[str]()
        self.metadata: dict[str, str] = {}
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            handlers=(self,),  # pyright: ignore[reportArgumentType]
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 1 << 26),
            ],
        )
        self.port = str(self._server.add_insecure_port("127.0.0.1:0"))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def service(self, call: Any) -> Any:
        """Called by grpc."""

        def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            if call.method == _HEALTH:
                yield _SERVING
                return
            self.calls[call.method.rpartition("/")[2]] += 1
            self.metadata = dict(context.invocation_metadata())
            yield from self.behaviour(b"".join(requests), context)

        return grpc.stream_stream_rpc_method_handler(answer)

    def kill(self) -> None:
        """Ends it with all that runs on it, as the death of its process would."""
        self._server.stop(None).wait()
        while True:  # grpc closes the port a moment later
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", int(self.port))) != 0:
                    return
            time.sleep(0.01)

    def __enter__(self) -> Peer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
