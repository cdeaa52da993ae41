"""An engine that says what a test wrote down, when the test says so."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.inference.engine import (
    Admitted,
    EngineCapabilities,
    EngineEvent,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupRequest,
    LoadedModel,
    Sink,
    TextCodec,
    Token,
    TokenScore,
)
from services.inference.engines.echo_engine import CAPABILITIES
from services.inference.engines.echo_text import VOCABULARY_SIZE, EchoText
from services.inference.registry import Registry, ServedModel
from services.serving.models import Known, ModelKind, ModelSettings


class ScriptedEngine:
    """Also the handle of its only group."""

    def __init__(
        self, capabilities: EngineCapabilities = CAPABILITIES, context_length: int = 4096
    ) -> None:
        self.info = EngineInfo(
            "scripted", "cpu", "none", context_length, 16, VOCABULARY_SIZE, 0, capabilities, "1"
        )
        self.group: GroupRequest | None = None
        self.sink: Sink | None = None
        self.submitted = asyncio.Event()
        self.calls: list[str] = []
        self.refusal: Exception | None = None
        """Answer to the next adapters."""
        self.attached: list[ScriptedEngine] = []

    def submit(self, group: GroupRequest, sink: Sink) -> "ScriptedEngine":
        self.group, self.sink = group, sink
        self.submitted.set()
        return self

    def say(self, *events: EngineEvent) -> None:
        assert self.sink is not None
        self.sink(events)

    def tokens(self, text: str | bytes, index: int = 0, logprob: float | None = None) -> None:
        raw = text.encode() if isinstance(text, str) else text
        for byte in raw:
            score = None if logprob is None else TokenScore(byte, logprob)
            self.say(Token(index, byte, score))

    def admit(self) -> None:
        self.say(Admitted())

    def finish(self, index: int) -> None:
        self.calls.append(f"finish {index}")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    async def compile(self, grammar: Grammar) -> object:
        return grammar

    def status(self) -> EngineStatus:
        return EngineStatus(0, 0, 0)

    async def probe(self) -> None:
        pass

    async def attach(self, name: str, folder: Path) -> "ScriptedEngine":
        self.calls.append(f"attach {name}")
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.attached.append(ScriptedEngine())
        return self.attached[-1]

    async def close(self) -> None:
        self.calls.append("close")


def registry_of(
    engine: ScriptedEngine,
    settings: ModelSettings | None = None,
    kind: ModelKind = ModelKind.CHAT,
    aliases: Sequence[str] = ("alias",),
    text: TextCodec | None = None,
) -> Registry:
    """A registry with one model, `m`, on this engine."""
    registry = Registry()
    registry.know([Known("m", kind, tuple(aliases))])
    served = ServedModel(
        "m",
        kind,
        "models/m/revisions/1",
        LoadedModel(engine, text or EchoText()),
        settings or ModelSettings(),
    )
    registry.put(served)
    return registry
