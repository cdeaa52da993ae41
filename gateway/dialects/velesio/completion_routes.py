"""`POST /completion`: the documented form, and that of llama.cpp's server."""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.default_models import DefaultModel
from gateway.dialects.velesio import sampling as samplings
from gateway.dialects.velesio import schema, translate
from gateway.dialects.velesio.keys import Answerer, has_any
from gateway.dialects.velesio.llama_answers import Evaluated, body_of, completions
from gateway.dialects.velesio.llama_stream import LlamaStream
from gateway.dialects.velesio.spelling import completion_spelling
from gateway.dialects.velesio.tokens import Tokens
from gateway.errors import Problem, ProblemError
from gateway.generations import Generations
from gateway.relays import relay
from gateway.settings import Settings
from gateway.sse import HEADERS
from gateway.token_room import cut
from gateway.validation import decode

Answer = TypeVar("Answer")

_logger = logging.getLogger(__name__)


class Completion:
    """`POST /completion`. `documented` answers what has no key of llama.cpp's own."""

    def __init__(self, settings: Settings, llama: "LlamaCompletion", documented: Answerer) -> None:
        self._limit = settings.max_body_bytes
        self._llama = llama
        self._documented = documented
        self._keys = msgspec.json.Decoder(schema.LlamaKeys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._limit)
        answer = self._llama.answer if has_any(decode(self._keys, data)) else self._documented
        await answer(data, context, receive, send)


class LlamaCompletion:
    """Completions in llama.cpp's form."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        generations: Generations,
        default_model: DefaultModel,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._generations = generations
        self._default_model = default_model
        self._tokens = Tokens(settings, clients)
        self._decoder = msgspec.json.Decoder(schema.LlamaCompletionRequest)

    async def answer(
        self, data: bytes, context: RequestContext, receive: Receive, send: Send
    ) -> None:
        """Answers a request whose body was read."""
        body = decode(self._decoder, data)
        translate.refuse_unsupported(body)
        prompts, many = translate.prompts_of(body.prompt)
        if body.model is None:
            body.model = await self._default_model(context)
        try:
            request, counts = await self._request(body, prompts, many, context, receive)
            wanted = _Wanted(body, request)
            if body.stream:
                await wanted.tried(
                    lambda: self._stream(body, request, counts, wanted, context, receive, send)
                )
                return
            response = await wanted.tried(
                lambda: self._generations.complete(request, context, receive)
            )
            texts = await self._shown(body.model, prompts, request, context, receive)
        except ProblemError as error:
            raise ProblemError(completion_spelling(many=many)(error.problem)) from None
        found = completions(
            response,
            [Evaluated(*known) for known in zip(texts, counts, strict=True)],
            samplings.settings_of(body, request.sampling, request.guide.gbnf),
            with_tokens=bool(body.return_tokens),
        )
        answer = body_of(found, body.response_fields, listed=many)
        await send_json(send, answer, headers=wanted.headers())

    async def _request(
        self,
        body: schema.LlamaCompletionRequest,
        prompts: Sequence[translate.PromptParts],
        many: bool,
        context: RequestContext,
        receive: Receive,
    ) -> tuple[inference_pb2.CompleteRequest, list[int | None]]:
        """Prepares a request, and counts the tokens of prompts where there are several."""
        biases, text_biases = translate.biases_of(body.logit_bias)
        texts = [translate.Text(text) for text, _ in text_biases]
        # A single text needs no look at its tokens: the service makes them.
        for prompt in prompts:
            texts += prompt.texts() if many or not prompt.is_text else ()
        translate.check_text_count(len(texts))
        found = iter(await self._tokens.of(body.model or "", texts, context, receive))
        for _, bias in text_biases:
            biases.update(dict.fromkeys(next(found), bias))
        made: list[inference_pb2.Prompt] = []
        counts: list[int | None] = []
        for prompt in prompts:
            ids: list[int] = []
            for part in prompt.parts if many or not prompt.is_text else ():
                ids += [part] if isinstance(part, int) else next(found)
            text = prompt.parts[0]
            if prompt.is_text and isinstance(text, str) and not ids:
                made.append(inference_pb2.Prompt(text=text))
            else:
                made.append(translate.token_prompt(ids))
            counts.append(max(len(ids), 1) if len(prompts) > 1 else None)
        sampling = samplings.to_sampling(body, biases, _drawn_seed(context.request_id))
        request = translate.to_complete_request(body, made, sampling)
        request.request_id = context.request_id
        return request, counts

    async def _shown(
        self,
        model: str,
        asked: Sequence[translate.PromptParts],
        request: inference_pb2.CompleteRequest,
        context: RequestContext,
        receive: Receive,
    ) -> list[str]:
        """The texts of prompts: as they were given, or of their tokens."""
        ids = [
            prompt.token_ids.ids
            for given, prompt in zip(asked, request.prompts, strict=True)
            if not given.is_text
        ]
        found = iter(await self._tokens.texts_of(model, ids, context, receive))
        return [str(given.parts[0]) if given.is_text else next(found) for given in asked]

    async def _stream(
        self,
        body: schema.LlamaCompletionRequest,
        request: inference_pb2.CompleteRequest,
        counts: Sequence[int | None],
        wanted: "_Wanted",
        context: RequestContext,
        receive: Receive,
        send: Send,
    ) -> None:
        metadata = grpc.aio.Metadata(*context.metadata().items())
        timeout_s = context.within(self._settings.request_timeout_s)
        call = self._clients.inference.StreamComplete(request, timeout=timeout_s, metadata=metadata)
        renderer = LlamaStream(
            prompt_tokens=counts, scored=bool(body.n_probs), fields=body.response_fields
        )
        await relay(
            call,
            renderer,
            receive,
            send,
            headers=[*HEADERS, *wanted.headers()],
            # LLM for Unity takes a comment for an answer that it can't read.
            ping_interval_s=None,
            slow_reader_s=self._settings.slow_reader_s,
        )


class _Wanted:
    """Leaves out of a request what its model can't do, as far as the dialect allows that."""

    def __init__(
        self, body: schema.LlamaCompletionRequest, request: inference_pb2.CompleteRequest
    ) -> None:
        self._request = request
        self._dispensable = samplings.dispensable(body)
        self._left_out: list[str] = []

    async def tried(self, act: Callable[[], Awaitable[Answer]]) -> Answer:
        """Does what is refused for a field that may be left out once more without it.

        Raises:
            ProblemError: it failed otherwise.
        """
        while True:
            try:
                return await act()
            except ProblemError as error:
                if not (self._leaves_out(error.problem) or self._cuts(error.problem)):
                    raise

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Says what was left out."""
        if not self._left_out:
            return []
        names = ", ".join(self._left_out)
        text = f'299 penstock "The model does not support these, so they are ignored: {names}"'
        return [(b"warning", text.encode("ascii"))]

    def _leaves_out(self, problem: Problem) -> bool:
        field = (problem.param or "").removeprefix("sampling.")
        if problem.reason != "UNSUPPORTED_PARAMETER" or field not in self._dispensable:
            return False
        self._dispensable.discard(field)
        samplings.leave_out(self._request.sampling, field)
        self._left_out.append(samplings.NAMES.get(field, field))
        _logger.debug("%s is ignored: %s", self._left_out[-1], problem.message)
        return True

    def _cuts(self, problem: Problem) -> bool:
        """Takes as many tokens as fit, as llama.cpp does: its limit is no promise."""
        return len(self._request.prompts) == 1 and cut(self._request.sampling, problem)


def _drawn_seed(request_id: str) -> int:
    """Draws a seed that is the same when a request is sent again, so that it is the same work."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
