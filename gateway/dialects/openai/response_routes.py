"""Responses: parse, find what they go on from, translate, call, translate back, keep."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.context import RequestContext, context_of, new_id
from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai import response_schema as schema
from gateway.dialects.openai import response_translate as translate
from gateway.dialects.openai.fine_tuning_schema import Nothing
from gateway.dialects.openai.response_answers import item_list, response_object
from gateway.dialects.openai.response_object import Draft
from gateway.dialects.openai.response_search import FileSearches
from gateway.dialects.openai.response_service import Conversation, StoredResponses
from gateway.dialects.openai.response_stream import ResponseStream
from gateway.errors import Problem, ProblemError
from gateway.generations import Generations
from gateway.queries import QueryDecoder
from gateway.settings import Settings
from gateway.streams import Closing
from gateway.validation import decode


class Responses:
    """`POST /v1/responses`."""

    def __init__(
        self,
        settings: Settings,
        generations: Generations,
        stored: StoredResponses,
        searches: FileSearches,
    ) -> None:
        self._limit = settings.max_body_bytes
        self._generations = generations
        self._stored = stored
        self._searches = searches
        self._decoder = msgspec.json.Decoder(schema.ResponseCreate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        translate.check(body)
        conversation = await self._stored.conversation(body, context)
        entries = conversation.entries
        asked = translate.to_chat_request(body, entries)
        found = await self._searches.make(body, entries, context, receive)
        if found.passages:
            asked = translate.to_chat_request(body, entries, found.passages)
        asked.request.request_id = context.request_id
        draft = Draft(body, new_id("resp_"))
        scored = translate.wants_logprobs(body)
        try:
            if body.stream:
                kept = body.store or False
                renderer = ResponseStream(
                    draft, found.items, scored=scored, kept=kept, spelling=asked.spell
                )
                keeping = self._keeping(renderer, conversation, context) if kept else None
                await self._generations.stream(
                    asked.request, renderer, context, receive, send, closing=keeping
                )
                return
            answer = await self._generations.chat(asked.request, context, receive)
        except ProblemError as error:
            raise ProblemError(asked.spell(error.problem)) from None
        response = response_object(answer, draft, found.items)
        if body.store:
            await self._stored.keep(response, conversation, context)
        await send_json(send, msgspec.json.encode(response))

    def _keeping(
        self, renderer: ResponseStream, conversation: Conversation, context: RequestContext
    ) -> Closing:
        """Makes what ends a stream: the response is kept before the client hears of its end."""

        async def keep() -> Sequence[bytes]:
            response = renderer.response
            if response is None:  # it failed, and the client heard of it
                return ()
            try:
                await self._stored.keep(response, conversation, context)
            except ProblemError as error:
                return (renderer.failed(error.problem),)
            return (renderer.completed(),)

        return keep


class OneResponse:
    """`GET` and `DELETE /v1/responses/{response_id}`."""

    def __init__(self, stored: StoredResponses) -> None:
        self._stored = stored
        self._query = QueryDecoder(schema.ResponseQuery)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        response_id: str = scope["path_params"]["response_id"]
        if scope["method"] == "DELETE":
            await self._stored.delete(response_id, context)
            deleted = answers.ResponseDeleted(response_id, "response", deleted=True)
            await send_json(send, msgspec.json.encode(deleted))
            return
        _check_include(scope)
        if self._query(scope).stream:
            raise translate.unsupported(
                "stream", "only responses that are being made are streamed; get this one whole"
            )
        await send_json(send, await self._stored.get(response_id, context))


class ResponseCancel:
    """`POST /v1/responses/{response_id}/cancel`."""

    def __init__(self, settings: Settings, stored: StoredResponses) -> None:
        self._limit = settings.max_body_bytes
        self._stored = stored
        self._decoder = msgspec.json.Decoder(Nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses: only what runs in the background could be cancelled."""
        decode(self._decoder, await read_body(scope, receive, self._limit))
        await self._stored.get(scope["path_params"]["response_id"], context_of(scope))
        message = (
            "Cannot cancel a synchronous response: only those of the background could be. Close "
            "the connection to end one that is being answered."
        )
        raise ProblemError(Problem("FAILED_PRECONDITION", message))


class ResponseInputItems:
    """`GET /v1/responses/{response_id}/input_items`."""

    def __init__(self, stored: StoredResponses) -> None:
        self._stored = stored
        self._query = QueryDecoder(schema.InputItemsQuery)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        _check_include(scope)
        response_id: str = scope["path_params"]["response_id"]
        page = await self._stored.input_items(response_id, self._query(scope), context_of(scope))
        await send_json(send, msgspec.json.encode(item_list(page)))


def _check_include(scope: Scope) -> None:
    """Refuses to include what is never kept; what is, is shown anyway."""
    text = bytes(scope["query_string"]).decode("utf-8", "replace")
    given = [value for name, value in parse_qsl(text) if name in ("include", "include[]")]
    translate.check_include(given, "include")
