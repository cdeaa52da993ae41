"""What engines answer, and in which order."""

import math

import pytest

from services.errors import ContextLengthExceeded, InvalidArgument
from services.inference.engine import (
    Admitted,
    Ended,
    EndReason,
    LoadedModel,
    PromptScored,
    Token,
)
from tests.conformance.conftest import Make
from tests.conformance.recorder import sequence, submit

QUESTION = [{"role": "user", "content": "Tell me a story about water, 你好 😀."}]


def chat(loaded: LoadedModel) -> list[int]:
    return loaded.text.encode(loaded.text.render(QUESTION, []))


def scores_prompts(loaded: LoadedModel) -> None:
    info = loaded.engine.info
    if not info.capabilities.prompt_logprobs:
        pytest.skip(f"the {info.name} engine does not score prompts, and says so")


async def test_events_come_in_order(loaded: LoadedModel) -> None:
    recorder = await submit(loaded.engine, sequence(chat(loaded), 5, ignore_eos=True)).until_over()
    kinds = [type(event) for event in recorder.events]
    assert kinds == [Admitted, *[Token] * 5, Ended]
    assert recorder.end().reason is EndReason.LENGTH


@pytest.mark.parametrize("max_tokens", [1, 2, 17])
async def test_max_tokens_is_exact(loaded: LoadedModel, max_tokens: int) -> None:
    request = sequence(chat(loaded), max_tokens, ignore_eos=True)
    recorder = await submit(loaded.engine, request).until_over()
    assert len(recorder.tokens()) == max_tokens


async def test_max_tokens_zero_only_reads_the_prompt(loaded: LoadedModel) -> None:
    prompt = chat(loaded)
    recorder = await submit(loaded.engine, sequence(prompt, 0)).until_over()
    assert [type(event) for event in recorder.events] == [Admitted, Ended]
    assert recorder.end().reason is EndReason.LENGTH
    scores_prompts(loaded)
    request = sequence(prompt, 0, logprobs=1, prompt_logprobs=True)
    recorder = await submit(loaded.engine, request).until_over()
    assert [type(event) for event in recorder.events] == [Admitted, PromptScored, Ended]
    assert recorder.end().reason is EndReason.LENGTH
    assert len(recorder.prompt_scores()) == len(prompt) - 1


async def test_the_context_ends_a_sequence(make: Make) -> None:
    loaded = await make(context_length=128)
    prompt = chat(loaded)
    recorder = await submit(loaded.engine, sequence(prompt, 10_000, ignore_eos=True)).until_over()
    assert len(prompt) + len(recorder.tokens()) == 128
    assert recorder.end().reason is EndReason.LENGTH


async def test_a_prompt_as_long_as_the_context_is_refused(make: Make) -> None:
    loaded = await make(context_length=64)
    with pytest.raises(ContextLengthExceeded):
        submit(loaded.engine, sequence([65] * 64))
    with pytest.raises(ContextLengthExceeded):
        submit(loaded.engine, sequence([65] * 65, 0))
    await submit(loaded.engine, sequence([65] * 64, 0)).until_over()
    recorder = await submit(loaded.engine, sequence([65] * 63, 9, ignore_eos=True)).until_over()
    assert len(recorder.tokens()) == 1


@pytest.mark.parametrize("bad", [-1, 10_000_000])
async def test_tokens_outside_the_vocabulary_are_refused(loaded: LoadedModel, bad: int) -> None:
    with pytest.raises(InvalidArgument):
        submit(loaded.engine, sequence([65, bad]))
    with pytest.raises(InvalidArgument):
        loaded.text.piece(bad)


async def test_nothing_to_do_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidArgument):
        submit(loaded.engine)
    with pytest.raises(InvalidArgument):
        submit(loaded.engine, sequence([]))


async def test_stop_tokens_end_and_are_not_reported(loaded: LoadedModel) -> None:
    free = await submit(loaded.engine, sequence(chat(loaded), 12, temperature=0)).until_over()
    tokens = free.tokens()
    stop = tokens[5]
    request = sequence(chat(loaded), 12, temperature=0, stop_token_ids=frozenset({stop}))
    recorder = await submit(loaded.engine, request).until_over()
    assert recorder.tokens() == tokens[: tokens.index(stop)]
    assert recorder.end().reason is EndReason.STOP_TOKEN


async def test_min_tokens_keeps_stop_tokens_away(loaded: LoadedModel) -> None:
    free = await submit(loaded.engine, sequence(chat(loaded), 1, temperature=0)).until_over()
    stop = frozenset(free.tokens())
    request = sequence(chat(loaded), 20, temperature=0, stop_token_ids=stop, min_tokens=7)
    recorder = await submit(loaded.engine, request).until_over()
    assert len(recorder.tokens()) >= 7
    assert not stop & set(recorder.tokens())


async def test_eos_ends_unless_ignored(make: Make) -> None:
    loaded = await make()
    [eos] = loaded.text.encode(loaded.text.eos_token)
    for seed in range(60):  # the random model gets there by chance, the echo at its end
        request = sequence(chat(loaded), 300, seed=seed, temperature=1.0)
        recorder = await submit(loaded.engine, request).until_over()
        if recorder.end().reason is EndReason.EOS:
            break
    assert recorder.end().reason is EndReason.EOS
    assert eos not in recorder.tokens()
    on = sequence(chat(loaded), 300, seed=seed, temperature=1.0, ignore_eos=True)
    longer = await submit(loaded.engine, on).until_over()
    assert len(longer.tokens()) == 300
    assert longer.tokens()[: len(recorder.tokens())] == recorder.tokens()


async def test_logprobs_are_log_probabilities(loaded: LoadedModel) -> None:
    most = min(5, loaded.engine.info.capabilities.max_top_logprobs)
    request = sequence(chat(loaded), 8, temperature=0, ignore_eos=True, logprobs=most)
    recorder = await submit(loaded.engine, request).until_over()
    assert [score.token_id for score in recorder.scores()] == recorder.tokens()
    assert all(score.logprob <= 0 for score in recorder.scores())
    if not most:
        return
    for score in recorder.scores():
        values = [value for _, value in score.top]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert len({token for token, _ in score.top}) == 5
        assert sum(map(math.exp, values)) <= 1 + 1e-5
        assert score.top[0] == (score.token_id, score.logprob)  # greedy takes the best


async def test_logprobs_without_alternatives(loaded: LoadedModel) -> None:
    none = await submit(loaded.engine, sequence(chat(loaded), 3, ignore_eos=True)).until_over()
    assert none.scores() == []
    request = sequence(chat(loaded), 3, ignore_eos=True, logprobs=0)
    own = await submit(loaded.engine, request).until_over()
    assert [score.top for score in own.scores()] == [()] * 3


async def test_prompts_are_scored_like_outputs(loaded: LoadedModel) -> None:
    """The output's scores come back when prompt and output together are scored as a prompt."""
    scores_prompts(loaded)
    prompt = chat(loaded)
    request = sequence(prompt, 9, temperature=0, ignore_eos=True, logprobs=2)
    free = await submit(loaded.engine, request).until_over()
    whole = prompt + free.tokens()
    scored = sequence(whole, 1, logprobs=2, prompt_logprobs=True)
    recorder = await submit(loaded.engine, scored).until_over()
    scores = recorder.prompt_scores()
    assert [score.token_id for score in scores] == whole[1:]
    if loaded.engine.info.name == "echo":
        return  # its conversation is another one with the answer inside
    for own, again in zip(free.scores(), scores[len(prompt) - 1 :], strict=True):
        assert own.logprob == pytest.approx(again.logprob, abs=1e-3)


async def test_prompts_of_one_token(loaded: LoadedModel) -> None:
    scores_prompts(loaded)
    request = sequence([65], 3, ignore_eos=True, logprobs=1, prompt_logprobs=True)
    recorder = await submit(loaded.engine, request, sequence([66], 3, ignore_eos=True)).until_over()
    assert list(recorder.prompt_scores()) == []
    assert len(recorder.tokens(0)) == len(recorder.tokens(1)) == 3


@pytest.mark.parametrize("temperature", [0, 0.7, 1.5])
async def test_seeds_repeat_whatever_else_runs(loaded: LoadedModel, temperature: float) -> None:
    prompt = chat(loaded)
    params = {"temperature": temperature, "ignore_eos": True, "top_p": 0.95}
    alone = [
        (await submit(loaded.engine, sequence(prompt, 24, seed, **params)).until_over()).tokens()
        for seed in range(3)
    ]
    mixed = [submit(loaded.engine, sequence(prompt[5:], 40, 99, temperature=1.0, top_k=7))]
    for seed in (2, 0, 1):
        mixed.append(submit(loaded.engine, sequence(prompt, 24, seed, **params)))
    for recorder in mixed:
        await recorder.until_over()
    assert [mixed[2].tokens(), mixed[3].tokens(), mixed[1].tokens()] == alone


async def test_choices_of_a_group_have_their_own_seeds(loaded: LoadedModel) -> None:
    prompt = chat(loaded)
    group = [sequence(prompt, 16, seed, temperature=1.3, ignore_eos=True) for seed in range(3)]
    together = await submit(loaded.engine, *group).until_over()
    for index, request in enumerate(group):
        alone = await submit(loaded.engine, request).until_over()
        assert together.tokens(index) == alone.tokens()


async def test_text_comes_back_from_pieces(loaded: LoadedModel) -> None:
    recorder = await submit(loaded.engine, sequence(chat(loaded), 40, seed=3)).until_over()
    decoder = loaded.text.decoder(chat(loaded))
    streamed = "".join(map(decoder.feed, recorder.tokens())) + decoder.flush()
    pieces = b"".join(map(loaded.text.piece, recorder.tokens()))
    assert streamed == pieces.decode("utf-8", errors="replace")


async def test_capabilities_name_fields_of_the_port(loaded: LoadedModel) -> None:
    info = loaded.engine.info
    params = sequence([1]).params
    assert all(hasattr(params, name) for name in info.capabilities.sampling_fields)
    assert info.slots > 0
    assert info.context_length > 0
    assert info.build
