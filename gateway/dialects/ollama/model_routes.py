"""Models: listed and shown. What would change them is refused, and says how it is done here."""

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2, model_service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.default_models import is_serving, listed_models
from gateway.dialects.ollama import answer_schema as answers
from gateway.dialects.ollama import models, schema
from gateway.dialects.ollama.names import with_model
from gateway.dialects.ollama.translate import catalogue_spelling
from gateway.errors import Problem, ProblemError
from gateway.health import platform_version
from gateway.settings import Settings
from gateway.validation import decode, missing


class Tags:
    """`GET /api/tags`: the models that answer."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        found = await _serving(self._clients, context_of(scope))
        answer = answers.OllamaTags([models.listed(model) for model in found])
        await send_json(send, msgspec.json.encode(answer))


class Processes:
    """`GET /api/ps`: the models that are loaded, which are those that answer."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        found = await _serving(self._clients, context_of(scope))
        answer = answers.OllamaProcesses([models.running(model) for model in found])
        await send_json(send, msgspec.json.encode(answer))


class Show:
    """`POST /api/show`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._clients = clients
        self._decoder = msgspec.json.Decoder(schema.OllamaShowRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        name = body.model or body.name
        if name is None:
            raise missing("model")
        model = await known_model(self._clients, name, context)
        runtime = None
        if model.kind in models.TEXT_KINDS and is_serving(model):
            request = inference_pb2.GetRuntimeInfoRequest(model=model.name)
            runtime = await ask(self._clients.inference.GetRuntimeInfo, request, context)
        await send_json(send, msgspec.json.encode(models.shown(model, runtime)))


class Version:
    """`GET /api/version`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await send_json(send, msgspec.json.encode(answers.OllamaVersion(platform_version())))


class Unmanaged:
    """Routes that manage models in Ollama."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request."""
        raise ProblemError(
            Problem(
                "UNIMPLEMENTED",
                "Models are not managed through this API: "
                "use `penstock models`, or the configuration file.",
            )
        )


async def known_model(clients: Clients, name: str, context: RequestContext) -> model_pb2.Model:
    """Returns a model by what these clients call it.

    Raises:
        ProblemError: there is none, or the catalogue doesn't answer.
    """

    async def get(known: str) -> model_pb2.Model:
        request = model_service_pb2.GetModelRequest(name=f"models/{known}")
        return await ask(clients.models.GetModel, request, context)

    try:
        return await with_model(name, get)
    except ProblemError as error:
        raise ProblemError(catalogue_spelling(error.problem)) from None


async def _serving(clients: Clients, context: RequestContext) -> list[model_pb2.Model]:
    found = await listed_models(clients, context, models.KINDS)
    return [model for model in found if is_serving(model)]
