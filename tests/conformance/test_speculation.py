"""The torch engine with drafts says, token for token, what it says without."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from services.inference.engine import (
    Admitted,
    Ended,
    Grammar,
    GrammarKind,
    LoadedModel,
    ModelSpec,
    Priority,
    Reused,
    SequenceRequest,
    Token,
    TokenScore,
)
from services.inference.engines.steps import Batch
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import Recorder, sequence, submit, until
from tests.unit.inference.engines.test_decoder_adapters import TARGETS, save_adapter

CONTEXT = 128
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head size, float32
EOS = 2
FEW = dict.fromkeys((70, 71, 72), 30.0)
"""Bias that leaves three tokens: what was drafted is right now and then."""
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "stubborn": {"temperature": 0, "logit_bias": {70: 60.0}},
    "seeded": {"temperature": 1.0, "logit_bias": FEW},
    "filtered": {"temperature": 0.8, "top_p": 0.9, "top_k": 2, "logit_bias": FEW},
    "recent": {"temperature": 0, "repetition_penalty": 1.3, "repeat_last_n": 3},
    "repeated": {"temperature": 0.5, "repetition_penalty": 1.2, "logit_bias": FEW},
    "frequent": {"temperature": 0, "frequency_penalty": 1.0, "logit_bias": FEW},
    "late": {"temperature": 1.0, "logit_bias": {**FEW, EOS: 30.0}, "min_tokens": 9},
    "stopped": {"temperature": 1.0, "logit_bias": {**FEW, 73: 28.0}, "stop_token_ids": {73}},
    "guided": {"temperature": 1.0},
    "guided and late": {"temperature": 0, "min_tokens": 12},
}
FORM = Grammar(GrammarKind.REGEX, "(ab|abab|b){3,20}")


@dataclass
class Server:
    """An engine, and what became of its drafts."""

    loaded: LoadedModel
    form: object = field(repr=False)
    counts: Counter[str] = field(default_factory=Counter[str])

    def watch(self) -> None:
        runner: Any = self.loaded.engine._runner  # type: ignore[attr-defined]
        run = runner.run

        def counted(batch: Batch) -> Any:
            results = run(batch)
            for result in results:
                matched = max(0, len(result.choices) - 1)
                self.counts["matched"] += matched
                self.counts["refused"] += len(result.span.draft) - matched
            return results

        runner.run = counted

    def request(self, prompt: Sequence[int], most: int, seed: int, kind: str) -> SequenceRequest:
        options = {**KINDS[kind], "logprobs": 2}
        options["stop_token_ids"] = frozenset(options.get("stop_token_ids", ()))
        wanted = sequence(prompt, most, seed, **options)
        return replace(wanted, grammar=self.form) if kind.startswith("guided") else wanted


async def serve(folder: Path, speculative_tokens: int, contexts: int = 4) -> Server:
    loader = TorchLoader(
        TorchSettings(
            max_batch_size=4,
            max_context=CONTEXT,
            device="cpu",
            dtype="float32",
            step_tokens=32,
            kv_cache_bytes=contexts * (CONTEXT + 1) * BYTES_PER_TOKEN,
            speculative_tokens=speculative_tokens,
        )
    )
    loaded = await loader.load(ModelSpec("tiny", "1", folder), lambda share: None)
    server = Server(loaded, await loaded.engine.compile(FORM))
    server.watch()
    return server


@pytest.fixture
def servers(tiny_llama: Path) -> Iterator[tuple[asyncio.Runner, Server, list[Server]]]:
    """One engine without drafts, and two with them and memory for one and for four contexts."""
    with asyncio.Runner() as runner:
        plain = runner.run(serve(tiny_llama, 0))
        drafting = [runner.run(serve(tiny_llama, 6, contexts)) for contexts in (1, 4)]
        yield runner, plain, drafting
        for server in (plain, *drafting):
            runner.run(server.loaded.engine.close())


def prompt_of(shared: int, own: int) -> list[int]:
    """Prompts begin alike, and say things twice."""
    begin = [(13 * place) % 40 + 60 for place in range(shared)]
    return begin + [place % 5 + 70 for place in range(own)]


SEQUENCE = st.tuples(
    st.integers(1, 50), st.integers(0, 25), st.integers(1, 50), st.integers(0, 3)
).flatmap(lambda sizes: st.tuples(st.just(sizes), st.sampled_from(sorted(KINDS))))
SUBMIT = st.tuples(
    st.just("submit"),
    st.lists(SEQUENCE, min_size=1, max_size=3),
    st.sampled_from(Priority),
)
TOUCH = st.tuples(
    st.sampled_from(["cancel", "pause", "resume"]), st.integers(0, 9), st.just(Priority.LOW)
)
WAIT = st.tuples(st.just("wait"), st.integers(0, 30), st.just(Priority.LOW))


def test_drafts_change_nothing(
    servers: tuple[asyncio.Runner, Server, list[Server]],
) -> None:
    runner, plain, drafting = servers
    known: dict[object, Recorder] = {}

    @settings(
        max_examples=8,
        deadline=None,
        phases=set(Phase) - {Phase.shrink},  # threads: a smaller example may run otherwise
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        actions=st.lists(st.one_of(SUBMIT, SUBMIT, TOUCH, WAIT), min_size=3, max_size=16),
        server=st.sampled_from(drafting),
    )
    def check(actions: list[tuple], server: Server) -> None:
        runner.run(play(actions, server, plain, known))

    check()
    counts = sum((server.counts for server in drafting), Counter[str]())
    assert counts["matched"] > 20
    assert counts["refused"] > 20
    assert plain.counts.total() == 0


async def play(
    actions: list[tuple], server: Server, plain: Server, known: dict[object, Recorder]
) -> None:
    recorders: list[tuple[Recorder, list[tuple]]] = []
    try:
        await act(actions, server, plain, known, recorders)
    finally:  # whatever failed, the next example finds an engine with nothing to do
        for recorder, _ in recorders:
            assert recorder.handle is not None
            recorder.handle.cancel()


async def act(
    actions: list[tuple],
    server: Server,
    plain: Server,
    known: dict[object, Recorder],
    recorders: list[tuple[Recorder, list[tuple]]],
) -> None:
    engine = server.loaded.engine
    cancelled: set[int] = set()
    for action, first, second in actions:
        if action == "submit":
            group = [server.request(*arguments(one)) for one in first]
            recorders.append((submit(engine, *group, priority=second), first))
        elif action == "wait":
            await asyncio.sleep(first / 1000)
        elif recorders:
            handle = recorders[first % len(recorders)][0].handle
            assert handle is not None
            getattr(handle, action)()
            if action == "cancel":
                cancelled.add(first % len(recorders))
    for recorder, _ in recorders:
        assert recorder.handle is not None
        recorder.handle.resume()
    for place, (recorder, _) in enumerate(recorders):
        if place not in cancelled:
            await recorder.until_over()
    pool = engine._scheduler._residents.pool  # type: ignore[attr-defined]
    await until(lambda: pool.owned == 0)
    for place, (recorder, group) in enumerate(recorders):
        assert recorder.failure is None
        for index, one in enumerate(group):
            expected = await alone(plain, one, known)
            ended = index in recorder.ends
            assert ended or place in cancelled
            compare(recorder, index, expected, ended=ended)


def arguments(one: tuple) -> tuple[list[int], int, int, str]:
    (shared, own, most, seed), kind = one
    return prompt_of(shared, own), most, seed, kind


async def alone(plain: Server, one: tuple, known: dict[object, Recorder]) -> Recorder:
    """What a sequence gives without drafts, when nothing else runs and nothing is shared."""
    if one not in known:
        request = plain.request(*arguments(one))
        known[one] = await submit(plain.loaded.engine, request, reuse=False).until_over()
    return known[one]


def compare(recorder: Recorder, index: int, expected: Recorder, *, ended: bool) -> None:
    tokens = recorder.tokens(index)
    assert tokens == expected.tokens()[: len(tokens)]
    for own, other in zip(recorder.scores(index), expected.scores(), strict=False):
        same(own, other)
    kinds = [type(e) for e in recorder.events if isinstance(e, Admitted) or e.index == index]  # type: ignore[union-attr]
    order = [kind for kind in kinds if kind is not Reused]
    ends = [Ended] if ended else []
    assert order == [Admitted] * bool(order) + [Token] * len(tokens) + ends
    if ended:
        assert tokens == expected.tokens()
        assert recorder.end(index).reason is expected.end().reason


def same(own: TokenScore, other: TokenScore) -> None:
    assert own.token_id == other.token_id
    assert own.logprob == pytest.approx(other.logprob, abs=1e-3)
    assert [token for token, _ in own.top] == [token for token, _ in other.top]
    assert [v for _, v in own.top] == pytest.approx([v for _, v in other.top], abs=1e-3)


@pytest.mark.parametrize("kind", ["stubborn", "guided and late"])
async def test_several_tokens_come_in_one_step(tiny_llama: Path, kind: str) -> None:
    server = await serve(tiny_llama, 6)
    try:
        prompt = prompt_of(20, 20)
        recorder = submit(server.loaded.engine, server.request(prompt, 60, 0, kind))
        await recorder.until_over()
        count = len(recorder.tokens())
        assert server.counts["matched"] >= count // 3 > 3
        assert recorder.calls <= 1 + 1 + count - server.counts["matched"]
    finally:
        await server.loaded.engine.close()


async def test_adapters_share_passes_with_drafts(tiny_llama: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    adapter = save_adapter(tmp_path / "adapter", base, TARGETS["llama"], 1)
    answers: list[list[Recorder]] = []
    for most in (0, 6):
        server = await serve(tiny_llama, most)
        engines = [server.loaded.engine, await server.loaded.engine.attach("adapter", adapter)]
        request = server.request(prompt_of(20, 20), 60, 3, "seeded")
        answers.append([submit(engine, request) for engine in engines])
        for recorder in answers[-1]:
            await recorder.until_over()
        assert (server.counts["matched"] > 5) == (most > 0)
        await server.loaded.engine.close()
    for own, expected in zip(*reversed(answers), strict=True):
        compare(own, 0, expected, ended=True)
    assert answers[0][0].tokens() != answers[0][1].tokens()
