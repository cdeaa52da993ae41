"""The retrieval service as vector stores see it."""

from typing import TypeVar

from penstock.retrieval.v1 import collection_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from starlette.types import Scope

from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.fields import Spelling
from gateway.errors import ProblemError
from gateway.settings import Settings

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Retrieval:
    """The retrieval service, with fields of its errors spelled as the dialect spells them."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self.stub = clients.retrieval

    async def ask(
        self,
        method: Method[Request, Answer],
        request: Request,
        context: RequestContext,
        spell: Spelling = translate.spell_store,
    ) -> Answer:
        """Makes a call about a store, or what `spell` knows the fields of."""
        try:
            timeout_s = self.settings.request_timeout_s
            return await ask(method, request, context, timeout_s=timeout_s)
        except ProblemError as error:
            raise ProblemError(spell(error.problem)) from None

    async def collection(self, scope: Scope) -> collection_pb2.Collection:
        """Gets the collection that a request is about."""
        context = context_of(scope)
        name = translate.store_name(context.principal, scope["path_params"]["store_id"])
        request = service_pb2.GetCollectionRequest(name=name)
        return await self.ask(self.stub.GetCollection, request, context)
