"""Renders a conversation as the prompt that it becomes, for prefixes that have a route for it."""

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import context_of
from gateway.default_models import DefaultModel
from gateway.dialects.openai import schema
from gateway.dialects.openai.answer_schema import Prompt
from gateway.dialects.openai.conversation import to_messages, to_tools
from gateway.dialects.openai.fields import prompt_spelling
from gateway.errors import ProblemError
from gateway.settings import Settings
from gateway.validation import decode


class Prompts:
    """`POST /apply-template`."""

    def __init__(self, settings: Settings, clients: Clients, default_model: DefaultModel) -> None:
        self._settings = settings
        self._stub = clients.inference
        self._default_model = default_model
        self._decoder = msgspec.json.Decoder(schema.PromptRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        data = await read_body(scope, receive, self._settings.max_body_bytes)
        body = decode(self._decoder, data)
        functions = [tool.function for tool in body.tools or ()]
        request = inference_pb2.ApplyTemplateRequest(
            messages=to_messages(body.messages),
            tools=to_tools(functions, "tools[{}].function"),
            add_generation_prompt=body.add_generation_prompt,
        )
        request.model = await self._default_model(context) if body.model is None else body.model
        timeout_s = self._settings.request_timeout_s
        try:
            answer = await ask_while_there(
                self._stub.ApplyTemplate, request, context, receive, timeout_s
            )
        except ProblemError as error:
            raise ProblemError(prompt_spelling()(error.problem)) from None
        await send_json(send, msgspec.json.encode(Prompt(answer.prompt)))
