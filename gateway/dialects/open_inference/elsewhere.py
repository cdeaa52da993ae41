"""What Triton adds to the protocol and is not served: each says what does instead."""

from starlette.types import Receive, Scope, Send

from gateway.errors import Problem, ProblemError

_MODELS = (
    "Models are not managed through this API: use `penstock models`, `GET /v1/deployments`, or the "
    "configuration file."
)
_MEMORY = "There is no shared memory here: send and take tensors as binary data in the bodies."
_OPERATORS = "Logs and traces are set up where the server runs, not by requests."
_STATISTICS = "`GET /v1/deployments/{id}` tells a model's counts and times."
_CONFIG = (
    "Triton's configuration of a model is told over gRPC (ModelConfig); `GET /v2/models/{model}` "
    "tells what it takes and gives."
)
_MODEL = "/models/{model:path}"
_VERSION = f"{_MODEL}/versions/{{version}}"

ELSEWHERE: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("GET",), (f"{_VERSION}/config", f"{_MODEL}/config"), _CONFIG),
    (("GET",), ("/models/stats", f"{_VERSION}/stats", f"{_MODEL}/stats"), _STATISTICS),
    (
        ("POST",),
        (
            "/repository/index",
            "/repository/models/{model:path}/load",
            "/repository/models/{model:path}/unload",
        ),
        _MODELS,
    ),
    *(
        (methods, (f"/{kind}sharedmemory{path}",), _MEMORY)
        for kind in ("system", "cuda")
        for methods, path in (
            (("GET",), "/status"),
            (("GET",), "/region/{name}/status"),
            (("POST",), "/region/{name}/register"),
            (("POST",), "/unregister"),
            (("POST",), "/region/{name}/unregister"),
        )
    ),
    (("GET", "POST"), ("/trace/setting", f"{_MODEL}/trace/setting", "/logging"), _OPERATORS),
)
"""Methods, paths and why."""


class Elsewhere:
    """Refuses, and says what to do."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request."""
        raise ProblemError(Problem("UNIMPLEMENTED", self._why))
