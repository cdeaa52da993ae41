"""The model that answers where a request may leave it out.

Of the models of a kind that answer now, and that the caller may use, it is one that is no fine-tune
of another, if there is one, then the oldest, then the first by ID: what is deployed later doesn't
take its place.
"""

from collections.abc import Awaitable, Callable, Sequence

from penstock.model.v1 import model_pb2, model_service_pb2

from gateway.clients import Clients, ask
from gateway.context import RequestContext
from gateway.errors import Problem, ProblemError
from policy.principals import Principal

DefaultModel = Callable[[RequestContext], Awaitable[str]]
"""Returns the ID of the model for a request that names none, or raises a ProblemError."""

_CHAT = model_pb2.MODEL_KIND_CHAT
_COMPLETION = model_pb2.MODEL_KIND_COMPLETION
_EMBEDDING = model_pb2.MODEL_KIND_EMBEDDING
_PAGE_SIZE = 1000
_MOST_PAGES = 100


class DefaultModels:
    """Looks the default up in the catalogue, for every request anew."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def chat(self, context: RequestContext) -> str:
        """The default among chat models."""
        return await self._first(context, "chat", _CHAT)

    async def text(self, context: RequestContext) -> str:
        """The default for all that has to do with text: a chat model, or else a completion model.

        A client that renders a conversation by one route has it continued by another, and both
        must mean the same model.
        """
        return await self._first(context, "text", _CHAT, _COMPLETION)

    async def embedding(self, context: RequestContext) -> str:
        """The default among embedding models."""
        return await self._first(context, "embedding", _EMBEDDING)

    async def _first(
        self, context: RequestContext, word: str, *kinds: model_pb2.ModelKind.ValueType
    ) -> str:
        models = await listed_models(self._clients, context, kinds)
        for kind in kinds:
            found = first_serving([m for m in models if m.kind == kind], context.principal)
            if found is not None:
                return model_id(found)
        if any(model.state == model_pb2.Model.STATE_DEPLOYING for model in models):
            message = f"No {word} model is ready yet. Try again shortly, or name a model."
            raise ProblemError(Problem("MODEL_NOT_READY", message, "model", retry_after_s=1.0))
        message = f"There is no {word} model that serves. Deploy one, or name a model."
        raise ProblemError(Problem("MODEL_NOT_FOUND", message, "model"))


def first_serving(
    models: Sequence[model_pb2.Model], principal: Principal
) -> model_pb2.Model | None:
    """Of models, the default one for a caller."""
    serving = [
        model
        for model in models
        if is_serving(model) and principal.may_use(model_id(model), *model.aliases)
    ]
    return min(serving, key=_seniority, default=None)


async def listed_models(
    clients: Clients, context: RequestContext, kinds: Sequence[model_pb2.ModelKind.ValueType] = ()
) -> list[model_pb2.Model]:
    """Returns the models of these kinds, or all of them, by ID.

    Raises:
        ProblemError: the catalogue doesn't answer.
    """
    request = model_service_pb2.ListModelsRequest(kinds=kinds, page_size=_PAGE_SIZE)
    found: list[model_pb2.Model] = []
    for _ in range(_MOST_PAGES):
        page = await ask(clients.models.ListModels, request, context)
        found.extend(page.models)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    return found


def is_serving(model: model_pb2.Model) -> bool:
    """Tells whether a model answers now: while a new revision loads, the one before does."""
    return model.state == model_pb2.Model.STATE_READY or bool(model.serving_revisions)


def model_id(model: model_pb2.Model) -> str:
    """The ID of a model."""
    return model.name.removeprefix("models/")


def _seniority(model: model_pb2.Model) -> tuple[bool, int, str]:
    return bool(model.base_model), model.create_time.ToNanoseconds(), model.name
