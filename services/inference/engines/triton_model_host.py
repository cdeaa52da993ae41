"""The torch engine within a python model of Triton: on an event loop, in a thread of its own.

Models speak the contracts of Triton's LLM backends (`triton_vllm_model`, `triton_trtllm_model`).
`penstock triton export` copies this beside them into a model repository.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.errors import DomainError, FailedPrecondition, Unavailable
from services.inference.engine import (
    Ended,
    Engine,
    EngineEvent,
    Failed,
    GroupHandle,
    GroupRequest,
    LoadedModel,
    ModelSpec,
    SequenceRequest,
    TextCodec,
    Token,
)
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from services.tritonserver.instance import Instance, instance_of

_CANCEL_POLL_S = 0.02
"""Time between questions whether a request was cancelled; Triton tells nobody."""
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Call:
    """A request that is answered with a stream."""

    request: Any
    """Triton's own."""
    sender: Any
    """What takes its answers."""
    sequence: SequenceRequest
    answer: Callable[[Sequence[Token], Ended | None], Any]
    """The answer that tells of tokens, or of the end; None where there is nothing to tell yet."""
    adapter: str = ""
    handle: GroupHandle | None = field(default=None)
    over: bool = False


class ModelHost:
    """Loads a model and generates with it."""

    def __init__(self, pb_utils: Any, args: dict[str, str], folder: Path) -> None:
        """Loads the model that the configuration's parameters name; takes a while."""
        self._pb = pb_utils
        self._calls: set[Call] = set()
        self._poller: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._adapters: dict[str, Engine] = {}
        try:
            own = instance_of(args, folder)
            self._loaded: LoadedModel = self._wait(self._load(folder, own))
        except DomainError as error:
            raise pb_utils.TritonModelException(error.message) from error

    @property
    def text(self) -> TextCodec:
        """The text side."""
        return self._loaded.text

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the model knows."""
        return self._loaded.engine.info.vocabulary_size

    @property
    def adapters(self) -> Sequence[str]:
        """Names of the LoRA adapters beside the model."""
        return list(self._adapters)

    def begin(self, requests: list[Any], read: Callable[[Any, Any], Call]) -> None:
        """Begins to answer requests, each as `read` understands it and what takes its answers.
        Returns at once; is called on Triton's thread."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                call = read(request, sender)
            except Exception as error:  # from here it would end all requests that came with it
                answer = self._pb.InferenceResponse([], self._error(error))
                sender.send(answer, self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            else:
                self._loop.call_soon_threadsafe(self._submit, call)

    def close(self) -> None:
        """Ends everything."""
        self._wait(self._loaded.engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _load(self, folder: Path, own: Instance) -> LoadedModel:
        given = own.given
        settings = TorchSettings(
            max_batch_size=int(given.get("slots") or 16),
            queue_limit=int(given.get("queue_limit") or 128),
            max_context=int(given.get("context_length") or 4096),
            device=own.device,
            dtype=given.get("dtype") or "auto",
            torch_threads=int(given.get("threads") or 0),
        )
        spec = ModelSpec(own.name, own.version, own.weights)
        loaded = await TorchLoader(settings).load(spec, lambda _share: None)
        listed = folder / "multi_lora.json"
        if listed.is_file():
            for name, place in json.loads(listed.read_text("utf-8")).items():
                self._adapters[name] = await loaded.engine.attach(name, folder / place)
        return loaded

    # On the loop's thread from here on.

    def _submit(self, call: Call) -> None:
        timeout_us = int(call.request.timeout() or 0)
        group = GroupRequest(
            [call.sequence],
            request_id=call.request.request_id(),
            deadline=self._loop.time() + timeout_us / 1e6 if timeout_us else None,
        )
        try:
            call.handle = self._engine(call.adapter).submit(
                group, lambda events: self._take(call, events)
            )
        except Exception as error:  # whatever it is, the request gets an answer
            self._fail(call, error)
            return
        self._calls.add(call)
        if self._poller is None:
            self._poller = self._loop.create_task(self._poll())

    def _engine(self, adapter: str) -> Engine:
        if not adapter:
            return self._loaded.engine
        if adapter not in self._adapters:
            known = "LoRA feature is not enabled."
            if self._adapters:
                known = (
                    f"LoRA {adapter} is not supported, we currently support {list(self._adapters)}"
                )
            raise FailedPrecondition(known)
        return self._adapters[adapter]

    def _take(self, call: Call, events: Sequence[EngineEvent]) -> None:
        tokens = [event for event in events if isinstance(event, Token)]
        end = next((event for event in events if isinstance(event, Ended)), None)
        failed = next((event for event in events if isinstance(event, Failed)), None)
        if call.over:
            return
        if failed is not None:
            self._fail(call, failed.error)
        elif tokens or end is not None:
            answer = call.answer(tokens, end)
            if answer is not None:
                self._send(call, answer, last=end is not None)

    def _send(self, call: Call, answer: Any, *, last: bool) -> None:
        final = self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        try:
            call.sender.send(answer, final)
        except Exception:
            _log.exception("an answer was not taken")
            last = True
            if call.handle is not None:
                call.handle.cancel()
        if last:
            call.over = True
            # Triton counts a request as running, and unloads nothing, while one of these is held.
            call.request = call.sender = None
            self._calls.discard(call)

    def _fail(self, call: Call, error: Exception) -> None:
        self._send(call, self._pb.InferenceResponse([], self._error(error)), last=True)

    def _error(self, error: Exception) -> Any:
        codes = self._pb.TritonError
        code, told = codes.INTERNAL, repr(error)
        if isinstance(error, DomainError):  # streams carry no status: the message tells the reason
            told = f"{error.reason}: {error.message}"
            passing = isinstance(error, Unavailable) or error.retry_after_s is not None
            code = codes.UNAVAILABLE if passing else codes.INVALID_ARG
        else:
            _log.error("a request failed", exc_info=error)
        return codes(f"Error generating stream: {told}", code)

    async def _poll(self) -> None:
        """Ends what was cancelled."""
        while self._calls:
            for call in list(self._calls):
                if not call.over and call.sender.is_cancelled():
                    self._pb.Logger.log_info(f"cancelled: {call.request.request_id()}")
                    if call.handle is not None:
                        call.handle.cancel()
                    codes = self._pb.TritonError
                    error = codes("Request was cancelled", codes.CANCELLED)
                    self._send(call, self._pb.InferenceResponse([], error), last=True)
            await asyncio.sleep(_CANCEL_POLL_S)
        self._poller = None
