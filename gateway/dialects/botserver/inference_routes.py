"""One inference on any model: parse, translate, call, translate back."""

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.botserver import inference_answers as answers
from gateway.dialects.botserver import inference_schema as schema
from gateway.dialects.botserver import inference_translate as translate
from gateway.errors import ProblemError
from gateway.inferences import KIND_WORDS, Inferences, off_loop
from gateway.settings import Settings


class Inference:
    """`POST /api/v1/ai/inference`: what the model is decides about what is asked of whom."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients
        self._inferences = Inferences(settings, clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = translate.parse(data)
        model = await self._inferences.model(body.model, context, "model")
        kind = KIND_WORDS.get(model.kind, "unknown")
        translate.check_input(body, kind)
        try:
            answer = await self._answer(kind, data, body, context, receive)
        except ProblemError as error:
            raise ProblemError(translate.spelled(error.problem, kind)) from None
        await send_json(
            send, await off_loop(len(answer.output), lambda: msgspec.json.encode(answer))
        )

    async def _answer(
        self,
        kind: str,
        data: bytes,
        body: schema.InferenceRequest,
        context: RequestContext,
        receive: Receive,
    ) -> schema.RawAnswer:
        timeout_s = self._settings.request_timeout_s
        match kind:
            case "embedding":
                embed = self._clients.embedding.Embed
                asked = translate.to_embed_request(data, body)
                asked.request_id = context.request_id
                vector = await ask_while_there(embed, asked, context, receive, timeout_s)
                return answers.of_vector(vector, body.model)
            case "image":
                generate = self._clients.images.Generate
                drawing = translate.to_image_request(data, body)
                drawn = await ask_while_there(generate, drawing, context, receive, timeout_s)
                return answers.of_image(drawn, body.model)
            case "tensor":
                return await self._compute(body, context, receive)
            case _:
                request = translate.to_text_request(data, body.model)
                response = await self._inferences.infer(request, context, receive)
                return answers.of_text(response, body.model)

    async def _compute(
        self, body: schema.InferenceRequest, context: RequestContext, receive: Receive
    ) -> schema.RawAnswer:
        response = await self._inferences.infer_arrays(
            body.model,
            bytes(body.input),
            context,
            receive,
            parameters=translate.to_struct(body.parameters or {}),
        )
        named = translate.is_named(body)
        size = sum(len(tensor.data) for tensor in response.tensors.tensors)
        return await off_loop(size, lambda: answers.of_tensors(response, body.model, named=named))
