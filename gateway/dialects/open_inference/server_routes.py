"""What is told of the server."""

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.dialects.open_inference import answer_schema as answers
from gateway.health import Health, platform_version

_EXTENSIONS = ["binary_tensor_data"]


class Live:
    """`GET /v2/health/live`: the edge answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await send_json(send, msgspec.json.encode(answers.OpenInferenceLive(True)))


class Ready:
    """`GET /v2/health/ready`: the inference service answers."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        ready = await self._health.serves("inference")
        body = msgspec.json.encode(answers.OpenInferenceReady(ready))
        await send_json(send, body, 200 if ready else 503)


class ServerMetadata:
    """`GET /v2`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        told = answers.OpenInferenceServer("penstock", platform_version(), _EXTENSIONS)
        await send_json(send, msgspec.json.encode(told))
