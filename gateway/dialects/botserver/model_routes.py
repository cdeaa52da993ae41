"""Models and their settings: parse, translate, call, translate back."""

from collections.abc import Awaitable
from typing import TypeVar

import msgspec
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.botserver import model_answers as answers
from gateway.dialects.botserver import model_schema as schema
from gateway.dialects.botserver import model_translate as translate
from gateway.dialects.botserver.repeats import repeat_id
from gateway.errors import Problem, ProblemError, invalid
from gateway.settings import Settings
from gateway.validation import decode

_PAGE_SIZE = 1000
_MOST_PAGES = 100

Answer = TypeVar("Answer")


class ModelList:
    """`GET /api/v1/ai/models`: a bare array of all models, whatever their state."""

    def __init__(self, clients: Clients) -> None:
        self._stub = clients.models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        request = service_pb2.ListModelsRequest(page_size=_PAGE_SIZE)
        found: list[schema.ModelItem] = []
        for _ in range(_MOST_PAGES):
            page = await ask(self._stub.ListModels, request, context)
            found.extend(answers.model_item(model) for model in page.models)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        await send_json(send, msgspec.json.encode(found))


class OneModel:
    """`GET` and `DELETE /api/v1/ai/models/{id}`."""

    def __init__(self, clients: Clients) -> None:
        self._stub = clients.models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        model_id = _model_id(scope)
        context = context_of(scope)
        name = f"{translate.MODELS}{model_id}"
        if scope["method"] == "DELETE":
            removal = service_pb2.DeleteModelRequest(name=name)
            await _told(ask(self._stub.DeleteModel, removal, context), model_id)
            answer = msgspec.json.encode(schema.ModelRemoved(model_id, "removed"))
        else:
            request = service_pb2.GetModelRequest(name=name)
            model = await _told(ask(self._stub.GetModel, request, context), model_id)
            answer = msgspec.json.encode(answers.model_item(model))
        await send_json(send, answer)


class DeployModel:
    """`POST /api/v1/ai/models/deploy`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._stub = clients.models
        self._decoder = msgspec.json.Decoder(schema.ModelDeploy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        request = translate.to_deploy_request(decode(self._decoder, data), repeat_id(context))
        timeout_s = self._settings.request_timeout_s
        try:
            call = ask_while_there(self._stub.DeployModel, request, context, receive, timeout_s)
            model = await call
        except ProblemError as error:
            raise ProblemError(translate.spelled(error.problem)) from None
        answer = msgspec.json.encode(answers.model_item(model))
        await send_json(send, answer, 201 if request.wait else 202)


class ModelSettings:
    """`GET` and `PUT /api/v1/ai/models/{id}/config`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._stub = clients.models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        model_id = _model_id(scope)
        context = context_of(scope)
        if scope["method"] == "PUT":
            update = translate.parse_config(await read_body(scope, receive, self._limit))
            model, config = await self._change(model_id, update, context)
        else:
            model = await self._model(model_id, context)
            request = service_pb2.GetModelConfigRequest(name=model.name)
            config = await _told(ask(self._stub.GetModelConfig, request, context), model_id)
        answer = answers.model_config(model, config)
        etag = (b"etag", b'"%d"' % answer.version)
        await send_json(send, msgspec.json.encode(answer), headers=[etag])

    async def _change(
        self, model_id: str, update: schema.ConfigUpdate, context: RequestContext
    ) -> tuple[model_pb2.Model, model_pb2.ModelConfig]:
        model = await self._model(model_id, context)
        if update.model_id not in (None, model_id, answers.model_id_of(model)):
            raise invalid("Invalid 'model_id': it is not the model of the path.", "model_id")
        etag = translate.etag_of(context.headers.get("if-match"), update.version)
        request = translate.to_update_request(update.config, model, etag)
        return model, await _told(ask(self._stub.UpdateModelConfig, request, context), model_id)

    async def _model(self, model_id: str, context: RequestContext) -> model_pb2.Model:
        request = service_pb2.GetModelRequest(name=f"{translate.MODELS}{model_id}")
        return await _told(ask(self._stub.GetModel, request, context), model_id)


def _model_id(scope: Scope) -> str:
    model_id: str = scope["path_params"]["model_id"]
    if not model_id:
        raise ProblemError(Problem("UNKNOWN_URL", "Invalid URL: the ID of a model is missing."))
    return model_id


async def _told(call: Awaitable[Answer], model_id: str) -> Answer:
    """Waits for what is asked of a model, and tells of an unknown one as the dialect does."""
    try:
        return await call
    except ProblemError as error:
        raise ProblemError(translate.unknown_model(error.problem, model_id)) from None
