"""A server that speaks Ray's Jobs API over HTTP, for what a real cluster does rarely."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.ports import free_port

Fault = Callable[["Handler"], bool]
"""Answers a request in its own way, and tells whether it did."""


class JobsApi(ThreadingHTTPServer):
    """Takes jobs, and runs none: tests say what becomes of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        """For the next requests, one each."""
        self.on_stop: Callable[[dict[str, Any]], None] = lambda job: job.update(status="STOPPED")
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def submit(self, body: dict[str, Any]) -> bool:
        """Takes a job, if its ID is new."""
        if body["submission_id"] in self.jobs:
            return False
        self.jobs[body["submission_id"]] = {
            **body,
            "type": "SUBMISSION",
            "status": "PENDING",
            "job_id": None,
            "message": "Job has not started yet.",
            "error_type": None,
            "driver_exit_code": None,
            "start_time": 1_700_000_000_000 + len(self.jobs),
            "end_time": None,
        }
        return True

    def end(self, id: str, status: str = "FAILED", **more: Any) -> None:
        self.jobs[id].update(status=status, **more)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JobsApi
    body: bytes = b""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def carry_out(self) -> tuple[int, Any]:
        """Does what is asked for; gives status and answer."""
        jobs = self.server.jobs
        _, _, _, *rest = self.path.split("/")
        if self.command == "POST" and rest == [""]:
            body = json.loads(self.body)
            if not self.server.submit(body):
                return 500, "Request failed with status code 400: ... already exists."
            return 200, {"submission_id": body["submission_id"], "job_id": body["submission_id"]}
        if rest == [""]:
            return 200, list(jobs.values())
        if rest[0] not in jobs:
            return 404, f"Job {rest[0]} does not exist"
        job = jobs[rest[0]]
        if rest[1:] == ["stop"]:
            if job["status"] == "RUNNING":
                self.server.on_stop(job)
            return 200, {"stopped": True}
        return 200, job

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append(f"{self.command} {self.path}")
        self.server.headers_seen.append(dict(self.headers))
        if self.server.faults and self.server.faults.pop(0)(self):
            return
        status, answer = self.carry_out()
        self.answer(
            status, answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        )


def answers(status: int, body: bytes, **headers: str) -> Fault:
    """Answers that, whatever was asked for."""

    def fault(request: Handler) -> bool:
        request.answer(status, body, **headers)
        return True

    return fault


def hangs(request: Handler) -> bool:
    """Never answers."""
    request.server.ended.wait()
    request.close_connection = True
    return True


def closes(request: Handler) -> bool:
    """Closes the connection, and does nothing."""
    request.close_connection = True
    return True


def does_and_closes(request: Handler) -> bool:
    """Does what is asked for; the answer is lost."""
    request.carry_out()
    request.close_connection = True
    return True


def serves(_request: Handler) -> bool:
    """Nothing out of the way."""
    return False


@contextmanager
def jobs_api(tls: ssl.SSLContext | None = None) -> Iterator[JobsApi]:
    """Runs one."""
    server = JobsApi()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def unused_address() -> str:
    """An address where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"
