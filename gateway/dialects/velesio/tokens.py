"""Tokens of texts, as the inference service makes them."""

from collections.abc import Sequence

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from starlette.types import Receive

from gateway.calls import ask_each_while_there
from gateway.clients import Clients
from gateway.context import RequestContext
from gateway.dialects.velesio.translate import Text
from gateway.settings import Settings


class Tokens:
    """Asks for tokens on behalf of clients who may leave."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._timeout_s = settings.request_timeout_s
        self._stub = clients.inference

    async def of(
        self, model: str, texts: Sequence[Text], context: RequestContext, receive: Receive
    ) -> list[list[int]]:
        """Returns the tokens of each text.

        Raises:
            ProblemError: the service refuses.
            ClientGoneError: the client left.
        """
        if not texts:
            return []
        requests = [
            inference_pb2.TokenizeRequest(model=model, text=text.text, add_special=text.first)
            for text in texts
        ]
        found = await ask_each_while_there(
            self._stub.Tokenize, requests, context, receive, self._timeout_s
        )
        return [list(answer.ids) for answer in found]

    async def texts_of(
        self,
        model: str,
        tokens: Sequence[Sequence[int]],
        context: RequestContext,
        receive: Receive,
    ) -> list[str]:
        """Returns the text of each list of tokens.

        Raises:
            ProblemError: the service refuses.
            ClientGoneError: the client left.
        """
        if not tokens:
            return []
        requests = [inference_pb2.DetokenizeRequest(model=model, ids=ids) for ids in tokens]
        found = await ask_each_while_there(
            self._stub.Detokenize, requests, context, receive, self._timeout_s
        )
        return [answer.text for answer in found]
