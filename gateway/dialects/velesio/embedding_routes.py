"""`POST /embedding` and `POST /embeddings`: OpenAI's form, and two of llama.cpp's servers."""

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.default_models import DefaultModel
from gateway.dialects.velesio import contents, schema
from gateway.dialects.velesio.keys import Answerer, has_any
from gateway.dialects.velesio.spelling import content_spelling
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.validation import decode
from gateway.vectors import joined


class Embeddings:
    """Vectors. `documented` answers what is in OpenAI's form."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        default_model: DefaultModel,
        documented: Answerer,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._default_model = default_model
        self._documented = documented
        self._input = msgspec.json.Decoder(schema.InputKey)
        self._stream = msgspec.json.Decoder(schema.StreamKey)
        self._decoder = msgspec.json.Decoder(schema.ContentEmbeddingRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        if has_any(decode(self._input, data)):
            await self._documented(data, context, receive, send)
        else:
            await self._answer(data, context, receive, send)

    async def _answer(
        self, data: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        body = decode(self._decoder, data)
        if body.model is None:
            body.model = await self._default_model(context)
        request = contents.to_embed_request(body)
        request.request_id = context.request_id
        many = contents.is_many(body)
        try:
            response = await ask_while_there(
                self._clients.embedding.Embed,
                request,
                context,
                receive,
                self._settings.request_timeout_s,
            )
        except ProblemError as error:
            raise ProblemError(content_spelling(many=many)(error.problem)) from None
        if has_any(decode(self._stream, data)):
            pieces = contents.vector_array(response)
        else:
            pieces = contents.vector_object(response, many=many)
        await send_json(send, await joined(pieces))
