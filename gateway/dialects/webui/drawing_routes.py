"""`txt2img`, `img2img` and `/generate-image`: parse, translate, call, translate back."""

import grpc
import msgspec
from penstock.image.v1 import image_pb2
from penstock.image.v1 import image_service_pb2 as service_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_pieces
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.webui import schema, translate
from gateway.dialects.webui.drawings import Drawings
from gateway.dialects.webui.listings import checkpoints_of
from gateway.dialects.webui.options import Wishes
from gateway.dialects.webui.spelling import drawing_spelling
from gateway.errors import ProblemError, unavailable
from gateway.relays import CUT_SHORT, EventReader
from gateway.settings import Settings
from gateway.validation import decode


class Drawing:
    """Draws with the image service."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.limit = settings.max_body_bytes
        self.slow_reader_s = settings.slow_reader_s
        self._timeout_s = settings.request_timeout_s
        self._clients = clients

    async def draw(
        self,
        body: schema.Txt2ImgRequest | schema.Img2ImgRequest,
        context: RequestContext,
        receive: Receive,
        *,
        keep: bool = True,
    ) -> Drawings:
        """Draws what a request asks for; the job is cancelled when the client leaves.

        Raises:
            ProblemError: it can't be drawn.
            ClientGoneError: the client left.
        """
        request, wishes = translate.to_image_request(body)
        try:
            await self._take_options(request, wishes, context)
            return await self._gather(request, context, receive, Drawings(keep=keep))
        except ProblemError as error:
            raise ProblemError(drawing_spelling(body)(error.problem)) from None

    async def _take_options(
        self, request: image_pb2.ImageRequest, wishes: Wishes, context: RequestContext
    ) -> None:
        now = await ask(self._clients.images.GetOptions, service_pb2.GetOptionsRequest(), context)
        named = wishes.checkpoint or wishes.second_checkpoint
        checkpoints = await checkpoints_of(self._clients, context) if named else ()
        translate.take_options(request, wishes, now, checkpoints)

    async def _gather(
        self,
        request: image_pb2.ImageRequest,
        context: RequestContext,
        receive: Receive,
        drawings: Drawings,
    ) -> Drawings:
        metadata = grpc.aio.Metadata(*context.metadata().items())
        stream = self._clients.images.StreamGenerate
        call = stream(request, timeout=context.within(self._timeout_s), metadata=metadata)
        async with EventReader(call, receive) as reader:
            while drawings.finish is None:
                event = await reader.read()
                if event is None:
                    raise ProblemError(unavailable(CUT_SHORT))
                drawings.add(event)
        return drawings


class Draw:
    """`POST /sdapi/v1/txt2img` and `…/img2img`: one route for each schema."""

    def __init__(
        self, drawing: Drawing, kind: type[schema.Txt2ImgRequest] | type[schema.Img2ImgRequest]
    ) -> None:
        self._drawing = drawing
        self._decoder = msgspec.json.Decoder(kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._drawing.limit)
        body = translate.filled(decode(self._decoder, data))
        keep = body.send_images is not False
        drawings = await self._drawing.draw(body, context_of(scope), receive, keep=keep)
        await send_pieces(send, [*drawings.answer(body)], self._drawing.slow_reader_s)


class GenerateImage:
    """`POST /generate-image`."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._decoder = msgspec.json.Decoder(schema.GenerateImageRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        data = await read_body(scope, receive, self._drawing.limit)
        body = translate.from_generate_image(decode(self._decoder, data))
        drawings = await self._drawing.draw(body, context_of(scope), receive)
        await send_pieces(send, [*drawings.only()], self._drawing.slow_reader_s)
