"""The benchmark of our layer over Triton: the same calls through it and by the bare stub, in turns,
in one process. Its CPU time is what is compared; Triton's own is not in it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc

from benchmarks.edge.report import table
from benchmarks.machine import described
from benchmarks.tritonserver.models import ECHO, tokens
from services.inference.engine import (
    Ended,
    EngineEvent,
    Failed,
    GroupRequest,
    LoadedModel,
    ModelSpec,
    SamplingParams,
    SequenceRequest,
)
from services.inference.engines.triton_loader import TritonTextLoader
from services.inference.engines.triton_ports import VLLM
from services.inference.engines.triton_settings import TritonTextSettings
from services.settings import TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.sections import Layout, config_text
from services.tritonserver.hosted import HostedModel
from services.tritonserver.protocol import InferenceStub
from services.tritonserver.tensors import bytes_tensor, tensor, to_request
from tests.triton_server import TritonServer, running_triton

_FOLDER = Path(__file__).resolve().parents[2] / "starters" / "chat" / "model"
_AT_ONCE = 16
_TOKENS = 200
_WORDS = "Hello"
_SAMPLING = f'{{"max_tokens": {_TOKENS}, "temperature": 0.0, "seed": 0, "logprobs": 0}}'


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 7
    calls: int = 400
    """Unary calls of a round."""
    streams: int = 16
    """Streams of a round."""


QUICK = Options(rounds=2, calls=100, streams=8)
"""Shows that everything works; its figures are rough."""


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    began = time.monotonic()
    with running_triton() as server:
        layout = Layout(backend="python", inputs=VLLM.inputs, outputs=VLLM.outputs, decoupled=True)
        server.add("echo", ECHO)
        server.add("tokens", tokens(config_text(layout, ExportOptions(name="tokens"))))
        rows = await _measured(server, options, say)
    note = f"{options.rounds} rounds, {time.monotonic() - began:.0f} s, {described()}."
    head = ("", "stub, µs", "our layer, µs", "ratio", "ratio of the time it takes")
    title = "### Triton: CPU of the caller, our layer beside the bare stub"
    return "\n\n".join([title, table(head, rows), note])


async def _measured(
    server: TritonServer, options: Options, say: Callable[[str], None]
) -> list[tuple[str, ...]]:
    triton = Triton(TritonSettings(endpoints=(server.address,)))
    spec = ModelSpec("tokens", "1", _FOLDER)
    settings = TritonTextSettings(max_batch_size=_AT_ONCE, queue_limit=1000)
    loaded = await TritonTextLoader(triton, settings).load(spec, lambda _share: None)
    echo = await HostedModel.open(triton, "echo")
    channel = grpc.aio.insecure_channel(server.address)
    stub: Any = InferenceStub(channel)
    given = [tensor("x", "FP32", [1.0] * 64)]
    count = options.streams

    async def bare_call() -> None:
        await stub.ModelInfer(to_request("echo", given))

    async def our_call() -> None:
        await echo.infer(given)

    try:
        return [
            await _row("unary, 64 numbers", options.calls, bare_call, our_call, options, say),
            await _row(
                f"streamed, a token of {_TOKENS}",
                count,
                lambda: _bare_stream(stub),
                lambda: _our_stream(loaded),
                options,
                say,
                parts=_TOKENS,
            ),
        ]
    finally:
        await channel.close()
        await echo.close()
        await loaded.close()
        await triton.close()


async def _row(
    name: str,
    count: int,
    bare: Callable[[], Awaitable[None]],
    ours: Callable[[], Awaitable[None]],
    options: Options,
    say: Callable[[str], None],
    *,
    parts: int = 1,
) -> tuple[str, ...]:
    await _timed(bare, count)
    await _timed(ours, count)
    pairs = [(await _timed(bare, count), await _timed(ours, count)) for _ in range(options.rounds)]
    say(f"{name}: done")
    cpu = [median(one[side][0] for one in pairs) / count / parts * 1e6 for side in (0, 1)]
    ratio = median(ours[0] / bare[0] for bare, ours in pairs)
    wall = median(ours[1] / bare[1] for bare, ours in pairs)
    return name, f"{cpu[0]:.0f}", f"{cpu[1]:.0f}", f"{ratio:.2f} ×", f"{wall:.2f} ×"


async def _timed(call: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """CPU and time of so many calls, some at once."""
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            await call()

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    return time.process_time() - cpu, time.perf_counter() - wall


async def _bare_stream(stub: Any) -> None:
    """Reads a stream and looks at nothing in it."""
    inputs = [
        bytes_tensor("text_input", [_WORDS]),
        bytes_tensor("sampling_parameters", [_SAMPLING]),
        *(tensor(name, "BOOL", [True]) for name in ("stream", "return_logprobs")),
    ]
    call = stub.ModelStreamInfer()
    await call.write(to_request("tokens", inputs))
    await call.done_writing()
    heard = 0
    while (answer := await call.read()) is not grpc.aio.EOF:
        heard += bool(answer.infer_response.outputs)
    if heard != _TOKENS:
        raise RuntimeError(f"{heard} tokens came, not {_TOKENS}")


async def _our_stream(loaded: LoadedModel) -> None:
    """Generates as InferenceService does: in the queue, by tokens, with their ends."""
    over = asyncio.Event()

    def sink(events: Any) -> None:
        last: EngineEvent = events[-1]
        if isinstance(last, Ended | Failed):
            over.set()

    params = SamplingParams(max_tokens=_TOKENS, seed=0, temperature=0.0, ignore_eos=True)
    prompt = loaded.text.encode(_WORDS)
    loaded.engine.submit(GroupRequest([SequenceRequest(prompt, params)]), sink)
    await over.wait()
