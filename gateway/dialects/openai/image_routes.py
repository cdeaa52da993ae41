"""Images: parse, translate, call, translate back."""

from collections.abc import Sequence

import grpc
import msgspec
from penstock.image.v1 import image_pb2, progress_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_pieces
from gateway.bodies import read_body
from gateway.clients import Clients
from gateway.context import RequestContext, context_of
from gateway.dialects.openai import image_schema as schema
from gateway.dialects.openai import image_translate as translate
from gateway.dialects.openai.fields import Spelling
from gateway.dialects.openai.file_routes import UploadedFiles
from gateway.dialects.openai.image_answers import Labels, WholeImages
from gateway.dialects.openai.image_masks import Masks, Picture
from gateway.dialects.openai.image_stream import ImageStream
from gateway.errors import Problem, ProblemError, invalid, unavailable, unsupported
from gateway.form_values import FormDecoder
from gateway.holding import Held
from gateway.multipart import MEDIA_TYPE, Form, FormLimits, Upload, media_type, read_form
from gateway.pictures import picture_bytes
from gateway.relays import CUT_SHORT, EventCall, EventReader, relay
from gateway.settings import Settings
from gateway.sse import HEADERS
from gateway.validation import decode, missing

_FORMS = frozenset({"application/x-www-form-urlencoded"})


class Drawings:
    """Has the image service draw, and answers with what it drew."""

    def __init__(self, settings: Settings, clients: Clients, files: UploadedFiles) -> None:
        self.settings = settings
        self.files = files
        # A picture becomes part of one message, so that a file on disk would spare nothing.
        limit = settings.max_body_bytes
        self.form_limits = FormLimits(body_bytes=limit, memory_bytes=limit)
        self._clients = clients

    async def answer(
        self,
        request: image_pb2.ImageRequest,
        body: schema.ImageOptions,
        prefix: str,
        spelled: Spelling,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answers with images, whole or as a stream whose events begin with `prefix`."""
        call = self._call(request, context_of(scope))
        labels = Labels.of(body)
        try:
            if body.stream:
                several = (body.n or 1) > 1
                await relay(
                    call,
                    ImageStream(prefix, labels, several=several, spelling=spelled),
                    receive,
                    send,
                    headers=HEADERS,
                    ping_interval_s=self.settings.ping_interval_s,
                    slow_reader_s=self.settings.slow_reader_s,
                )
                return
            pieces = await _whole(call, WholeImages(labels), receive)
        except ProblemError as error:
            raise ProblemError(spelled(error.problem)) from None
        await send_pieces(send, pieces, self.settings.slow_reader_s)

    def _call(
        self, request: image_pb2.ImageRequest, context: RequestContext
    ) -> EventCall[progress_pb2.ImageEvent]:
        """Whole answers are streamed here, too: their images may not fit into one message."""
        metadata = grpc.aio.Metadata(*context.metadata().items())
        timeout_s = context.within(self.settings.request_timeout_s)
        return self._clients.images.StreamGenerate(request, timeout=timeout_s, metadata=metadata)


class ImageGenerations:
    """`POST /v1/images/generations`."""

    def __init__(self, drawings: Drawings) -> None:
        self._drawings = drawings
        self._decoder = msgspec.json.Decoder(schema.ImageGeneration)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._drawings.settings.max_body_bytes)
        body = decode(self._decoder, data)
        request = translate.to_generation(body)
        spelled = translate.image_spelling(body)
        await self._drawings.answer(
            request, body, "image_generation", spelled, scope, receive, send
        )


class ImageEdits:
    """`POST /v1/images/edits`: a form, or JSON with `data:` URLs."""

    def __init__(self, drawings: Drawings) -> None:
        self._drawings = drawings
        self._decoder = msgspec.json.Decoder(schema.ImageEdit)
        self._form_decoder = FormDecoder(schema.ImageEditOptions)
        self._masks = Masks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        request, body, spelled = await self._read(scope, receive)
        await self._drawings.answer(request, body, "image_edit", spelled, scope, receive, send)

    async def _read(
        self, scope: Scope, receive: Receive
    ) -> tuple[image_pb2.ImageRequest, schema.ImageOptions, Spelling]:
        """Files go with the end of this: the request has copies of them."""
        kind = media_type(scope)
        if kind in _FORMS:
            raise ProblemError(
                Problem("MALFORMED_BODY", f"Send a body of type {MEDIA_TYPE} or application/json.")
            )
        if kind == MEDIA_TYPE:
            body, image, mask = await self._of_form(scope, receive)
        else:
            body, image, mask = await self._of_json(scope, receive)
        hole = await self._masks.mask_of(image, mask)
        request = translate.to_edit(body, image.data, hole)
        mask_field = image.field if mask is None else mask.field
        return request, body, translate.image_spelling(body, image.field, mask_field)

    async def _of_form(
        self, scope: Scope, receive: Receive
    ) -> tuple[schema.ImageEditOptions, Picture, Picture | None]:
        with await read_form(scope, receive, self._drawings.form_limits) as form:
            body = self._form_decoder(form.texts)
            if _files(form, "markup"):
                raise unsupported("markup", "say it in the prompt, or send a mask")
            image = _image(form)
            masks = _files(form, "mask")
            if len(masks) > 1:
                raise invalid(f"Invalid 'mask': {len(masks)} masks. Send one.", "mask")
            return body, image, _picture(masks[0], "mask") if masks else None

    async def _of_json(
        self, scope: Scope, receive: Receive
    ) -> tuple[schema.ImageEditOptions, Picture, Picture | None]:
        data = await read_body(scope, receive, self._drawings.settings.max_body_bytes)
        body = decode(self._decoder, data)
        translate.check_only_one(body.images, "images")
        context = context_of(scope)
        room = self._drawings.settings.max_body_bytes
        image = await self._referred(body.images[0], "images[0]", room, context, receive)
        if body.mask is None:
            return body, image, None
        room -= len(image.data)  # both go in one message, as they would have come in one body
        mask = await self._referred(body.mask, "mask", room, context, receive)
        return body, image, mask

    async def _referred(
        self,
        reference: schema.ImageReference,
        field: str,
        room: int,
        context: RequestContext,
        receive: Receive,
    ) -> Picture:
        """Gets the picture that a reference means: an upload of at most `room` bytes, or a URL."""
        if reference.file_id is None:
            return _inline(reference, field)
        if reference.image_url is not None:
            message = f"Invalid '{field}': send either a file_id or an image_url."
            raise invalid(message, field)
        where = f"{field}.file_id"
        file = await self._drawings.files.get(reference.file_id, context, where)
        if not file.size_bytes:
            raise invalid(f"Invalid '{where}': the file is empty.", where)
        if file.size_bytes > room:
            message = f"Invalid '{where}': the file is larger than the {room} bytes left for it."
            raise invalid(message, where)
        return Picture(await self._drawings.files.read(file, context, receive, where), where)


class ImageVariations:
    """`POST /v1/images/variations`, a form."""

    def __init__(self, drawings: Drawings) -> None:
        self._drawings = drawings
        self._decoder = FormDecoder(schema.ImageVariationOptions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        with await read_form(scope, receive, self._drawings.form_limits) as form:
            body = self._decoder(form.texts)
            request = translate.to_variation(body, _image(form).data)
        spelled = translate.image_spelling(body)
        await self._drawings.answer(request, body, "image_variation", spelled, scope, receive, send)


async def _whole(
    call: EventCall[progress_pb2.ImageEvent], images: WholeImages, receive: Receive
) -> list[Held]:
    async with EventReader(call, receive) as reader:
        while not images.finished:
            event = await reader.read()
            if event is None:
                raise ProblemError(unavailable(CUT_SHORT))
            images.add(event)
    return images.pieces()


def _image(form: Form) -> Picture:
    """The one picture of a form, in `image` or `image[]`."""
    files = _files(form, "image")
    if not files:
        raise missing("image")
    translate.check_only_one(files, "image")
    return _picture(files[0], "image")


def _files(form: Form, name: str) -> Sequence[Upload]:
    """The files of a field, which may be a list: `name`, `name[]` or `name[0]`.

    Raises:
        ProblemError: it is there as a text.
    """
    for given, text in form.texts:
        if given.partition("[")[0] == name and text:
            message = f"Invalid type for '{name}': expected a file, but got a text instead."
            raise invalid(message, name, "invalid_type")
    return [file for file in form.files if file.name.partition("[")[0] == name]


def _picture(file: Upload, field: str) -> Picture:
    if not file.size:
        raise invalid(f"Invalid '{field}': the file is empty.", field)
    return Picture(file.data(), field)


def _inline(reference: schema.ImageReference, field: str) -> Picture:
    if reference.image_url is None:
        raise missing(f"{field}.image_url")
    where = f"{field}.image_url"
    return Picture(picture_bytes(reference.image_url, where), where)
