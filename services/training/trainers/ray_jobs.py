"""A client of the Jobs API that a Ray cluster's dashboard serves.

It is spoken over HTTP, so that the service needs no `ray` package, nor the Ray version of the
cluster. Of the cluster's answers only what is used here is read.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from services.errors import Unavailable

_log = logging.getLogger(__name__)

_ANSWER_TIMEOUT_S: Final = 20.0
# The cluster may have to start an agent of its own before it takes the first job.
_SUBMIT_TIMEOUT_S: Final = 60.0

_OK: Final = 200
_REFUSED: Final = (401, 403)
_NOT_FOUND: Final = 404


class Status(StrEnum):
    """Where a submission stands."""

    PENDING = "PENDING"
    """Its entrypoint hasn't been started: it waits for its share of the cluster."""
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    """Somebody asked for its end."""
    SUCCEEDED = "SUCCEEDED"
    """Its entrypoint exited with 0."""
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self not in {Status.PENDING, Status.RUNNING}


class Submission(msgspec.Struct, frozen=True):
    """What the cluster tells of one job of its own."""

    status: Status
    submission_id: str | None = None
    """None for what wasn't submitted through the API."""
    metadata: dict[str, str] | None = None
    start_time: int | None = None
    """In milliseconds."""
    message: str | None = None
    error_type: str | None = None
    driver_exit_code: int | None = None
    """What the entrypoint exited with; negative: the signal that killed it."""


class NewSubmission(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to run. The ID makes it idempotent: a cluster takes each one once."""

    submission_id: str
    entrypoint: str
    """A command of the shell."""
    metadata: Mapping[str, str]
    entrypoint_num_cpus: float = 0.0
    entrypoint_num_gpus: float = 0.0
    entrypoint_memory: int = 0


@dataclass(frozen=True, slots=True)
class RayCluster:
    """How a cluster is reached."""

    address: str
    """Of its dashboard: `http://host:8265` or `https://...`."""
    token: str = ""
    """Sent as a bearer token, where it isn't empty."""
    ca_file: Path | None = None
    """What an https address is checked with. None: the certificates of the system."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                "The address of a Ray cluster must be that of its dashboard, such as "
                f"http://ray-head:8265, not {self.address!r}."
            )

    def __repr__(self) -> str:
        return f"RayCluster({self.address!r})"


_Value = TypeVar("_Value")


class RayJobs:
    """The jobs of a cluster. Whatever keeps it from answering is `Unavailable`."""

    def __init__(self, cluster: RayCluster, *, answer_timeout_s: float = _ANSWER_TIMEOUT_S) -> None:
        self._answer_timeout_s = answer_timeout_s
        self._http = httpx.AsyncClient(
            base_url=cluster.address,
            headers={"Authorization": f"Bearer {cluster.token}"} if cluster.token else {},
            verify=ssl.create_default_context(cafile=cluster.ca_file),
            timeout=httpx.Timeout(None, connect=5.0),
            # Proxies of the environment are none of our settings, and the token is not for them.
            trust_env=False,
        )

    async def submit(self, new: NewSubmission) -> None:
        """Hands over a job. `Unavailable` may also mean that the cluster has it already."""
        answer = await self._call("POST", "/api/jobs/", body=new, timeout_s=_SUBMIT_TIMEOUT_S)
        if answer is None:
            raise _strange("POST /api/jobs/", _NOT_FOUND, "")

    async def get(self, submission_id: str) -> Submission | None:
        """Looks one up; None where the cluster doesn't know it."""
        answer = await self._call("GET", _path(submission_id))
        return None if answer is None else _decoded(answer, Submission)

    async def list(self) -> list[Submission]:
        """Lists everything that the cluster ran since it was started."""
        answer = await self._call("GET", "/api/jobs/")
        if answer is None:
            raise _strange("GET /api/jobs/", _NOT_FOUND, "")
        return _decoded(answer, list[Submission])

    async def stop(self, submission_id: str) -> None:
        """Asks for the end of one and doesn't wait for it; ended and unknown ones are left."""
        await self._call("POST", f"{_path(submission_id)}/stop")

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: NewSubmission | None = None,
        timeout_s: float | None = None,
    ) -> bytes | None:
        """Gives the body of the answer; None for 404."""
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            # httpx bounds each read of the socket, not the whole answer.
            async with asyncio.timeout(timeout_s or self._answer_timeout_s):
                answer = await self._http.request(method, path, content=content, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            _log.warning("The Ray cluster doesn't answer %s %s: %r", method, path, error)
            raise Unavailable(
                "The Ray cluster does not answer. Look whether its head runs and whether "
                "`[training] ray_address` is the address of its dashboard."
            ) from error
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.status_code in _REFUSED:
            _log.warning("The Ray cluster answers %s %s: %d", method, path, answer.status_code)
            raise Unavailable(
                "The Ray cluster refuses the service. Set `[training] ray_token` to its token."
            )
        if answer.status_code != _OK:
            raise _strange(f"{method} {path}", answer.status_code, answer.text)
        return answer.content


def _path(submission_id: str) -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}"


def _decoded(answer: bytes, type: type[_Value]) -> _Value:
    try:
        return msgspec.json.decode(answer, type=type)
    except msgspec.DecodeError as error:
        _log.warning("Not an answer of Ray's Jobs API: %s: %r", error, answer[:1000])
        raise Unavailable(
            "What answers for the Ray cluster does not speak Ray's Jobs API. Look whether "
            "`[training] ray_address` is the address of its dashboard."
        ) from error


def _strange(call: str, status: int, text: str) -> Unavailable:
    _log.warning("The Ray cluster answers %s: %d: %s", call, status, text[-2000:])
    return Unavailable(f"The Ray cluster answers with status {status}; its log says why.")
