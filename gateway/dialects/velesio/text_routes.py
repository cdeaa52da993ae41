"""What clients of llama.cpp's server ask besides: template, tokens, properties and slots."""

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.calls import ask_while_there
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.default_models import DefaultModel
from gateway.dialects.velesio import answer_schema as answers
from gateway.dialects.velesio import schema
from gateway.dialects.velesio.sampling import DEFAULTS, NAMES
from gateway.dialects.velesio.spelling import IDS, TEXT
from gateway.errors import ProblemError, invalid, unsupported
from gateway.health import platform_version
from gateway.queries import QueryDecoder
from gateway.settings import Settings
from gateway.validation import decode

TEMPLATES = frozenset(
    {
        *("chatml", "llama", "llama chat", "llama3 chat", "mistral instruct", "mistral chat"),
        *("gemma", "alpaca", "vicuna", "phi", "phi-3", "phi-3.5", "phi-4-mini", "phi-4"),
        *("zephyr", "deepseek-v2", "deepseek-v3", "deepseek-r1", "qwen3", "bitnet"),
    }
)
"""The names that LLM for Unity 2 knows. It fails on any other."""

_FALLBACK = "chatml"
_ACTIONS = ("save", "restore", "erase")


class Models:
    """What serves a request, and how."""

    def __init__(self, settings: Settings, clients: Clients, default_model: DefaultModel) -> None:
        self.settings = settings
        self.stub = clients.inference
        self.default_model = default_model
        self._body = msgspec.json.Decoder(schema.AnyModel)
        self._query = QueryDecoder(schema.AnyModel)

    async def runtime(self, scope: Scope, receive: Receive) -> inference_pb2.RuntimeInfo:
        """Tells how the model is served that a request means.

        Raises:
            ProblemError: there is no such model, or none at all.
        """
        context = context_of(scope)
        if scope["method"] == "POST":
            data = await read_body(scope, receive, self.settings.max_body_bytes)
            named = decode(self._body, data)
        else:
            named = self._query(scope)
        model = await self.model(named.model, context)
        request = inference_pb2.GetRuntimeInfoRequest(model=model)
        timeout_s = self.settings.request_timeout_s
        return await ask_while_there(self.stub.GetRuntimeInfo, request, context, receive, timeout_s)

    async def model(self, named: str | None, context: RequestContext) -> str:
        """The model that is named, or the default one.

        Raises:
            ProblemError: there is no default.
        """
        return await self.default_model(context) if named is None else named


class Template:
    """`GET` and `POST /template`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        info = await self._models.runtime(scope, receive)
        name = info.template_name if info.template_name in TEMPLATES else _FALLBACK
        answer = answers.TemplateName(name, info.chat_template, info.model)
        await send_json(send, msgspec.json.encode(answer))


class Tokenize:
    """`POST /tokenize`."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._decoder = msgspec.json.Decoder(schema.TokenizeBody)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context, models = context_of(scope), self._models
        data = await read_body(scope, receive, models.settings.max_body_bytes)
        body = decode(self._decoder, data)
        if body.parse_special is False:
            raise unsupported("parse_special", "the text of a special token is that token")
        request = inference_pb2.TokenizeRequest(
            model=await models.model(body.model, context),
            text=body.content,
            add_special=bool(body.add_special),
            with_pieces=bool(body.with_pieces),
        )
        timeout_s = models.settings.request_timeout_s
        try:
            found = await ask_while_there(
                models.stub.Tokenize, request, context, receive, timeout_s
            )
        except ProblemError as error:
            raise ProblemError(TEXT(error.problem)) from None
        tokens = answers.Tokens(list(found.ids))
        if body.with_pieces:
            pairs = zip(found.ids, found.pieces, strict=True)
            tokens.tokens = [answers.TokenPiece(id_, _piece(piece)) for id_, piece in pairs]
        await send_json(send, msgspec.json.encode(tokens))


class Detokenize:
    """`POST /detokenize`."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._decoder = msgspec.json.Decoder(schema.DetokenizeBody)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context, models = context_of(scope), self._models
        data = await read_body(scope, receive, models.settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = inference_pb2.DetokenizeRequest(
            model=await models.model(body.model, context), ids=body.tokens
        )
        timeout_s = models.settings.request_timeout_s
        try:
            found = await ask_while_there(
                models.stub.Detokenize, request, context, receive, timeout_s
            )
        except ProblemError as error:
            raise ProblemError(IDS(error.problem)) from None
        await send_json(send, msgspec.json.encode(answers.Content(found.text)))


class Props:
    """`GET` and `POST /props`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        info = await self._models.runtime(scope, receive)
        params = {NAMES.get(name, name): value for name, value in DEFAULTS.items()}
        settings = answers.PropSettings(
            n_ctx=info.context_length,
            id=0,
            is_processing=info.running_count > 0,
            params={"n_predict": -1, "seed": -1, **params},
        )
        answer = answers.Props(
            default_generation_settings=settings,
            total_slots=info.slot_count,
            model_alias=info.model,
            model_path=info.revision,
            modalities=answers.Modalities(vision=False, audio=False),
            chat_template=info.chat_template,
            bos_token=info.bos_token,
            eos_token=info.eos_token,
            build_info=f"penstock {platform_version()} {info.engine}",
        )
        await send_json(send, msgspec.json.encode(answer))


class Slots:
    """`POST /slots`: saves and restores nothing, for nothing of an answer depends on a slot."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_body_bytes
        self._decoder = msgspec.json.Decoder(schema.SlotBody)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        if body.action not in _ACTIONS:
            names = ", ".join(f"'{name}'" for name in _ACTIONS)
            raise invalid(f"Invalid value for 'action'. Supported values are: {names}.", "action")
        await send_json(send, msgspec.json.encode(answers.SlotFile(body.filepath)))


def _piece(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
