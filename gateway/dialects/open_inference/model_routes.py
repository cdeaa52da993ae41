"""Tensor models: what they are, and what they compute."""

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_body, send_json
from gateway.bodies import read_body
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.open_inference import answer_schema as schema
from gateway.dialects.open_inference import answers
from gateway.dialects.open_inference.framing import opened
from gateway.dialects.open_inference.translate import spelled, to_asked
from gateway.errors import ProblemError
from gateway.inferences import Inferences, off_loop
from gateway.settings import Settings


class Models:
    """How tensor models are found."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._inferences = Inferences(settings, clients)

    async def runtime(self, scope: Scope, context: RequestContext) -> inference_pb2.RuntimeInfo:
        """Tells how the model of a path is served.

        Raises:
            ProblemError: it isn't, or not in that version.
        """
        info = await self._inferences.runtime(scope["path_params"]["model"], context)
        version: str | None = scope["path_params"].get("version")
        if version is not None:
            answers.check_version(info, version)
        return info


class ModelReady(Models):
    """`GET /v2/models/{model}/ready`. One that isn't is a 404 or 503."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        info = await self.runtime(scope, context_of(scope))
        await send_json(send, msgspec.json.encode(schema.OpenInferenceModelReady(info.model, True)))


class ModelMetadata(Models):
    """`GET /v2/models/{model}`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        info = await self.runtime(scope, context_of(scope))
        await send_json(send, msgspec.json.encode(answers.to_model(info)))


class Infer(Models):
    """`POST /v2/models/{model}/infer`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        super().__init__(settings, clients)
        self._limit = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = await read_body(scope, receive, self._limit)
        # Nobody knows how large a deflated body gets.
        size = self._limit if "content-encoding" in context.headers else len(body)
        asked = await off_loop(size, lambda: to_asked(*opened(context.headers, body, self._limit)))
        if asked.timeout_s is not None:
            context.time_limit_s = min(asked.timeout_s, context.time_limit_s or asked.timeout_s)
        version = ""
        if "version" in scope["path_params"]:
            version = answers.version_of(await self.runtime(scope, context))
        request = inference_pb2.InferRequest(
            model=scope["path_params"]["model"], tensors=asked.tensors
        )
        try:
            response = await self._inferences.infer(request, context, receive)
        except ProblemError as error:
            raise ProblemError(spelled(error.problem)) from None
        size = sum(len(tensor.data) for tensor in response.tensors.tensors)
        answer = await off_loop(size, lambda: answers.to_answer(asked, version, response))
        await send_body(send, answer.body, 200, answer.headers)
