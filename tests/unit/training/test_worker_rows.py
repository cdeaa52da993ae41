"""What a worker makes of examples: the tokens of serving, and which of them are learnt."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from services.errors import InvalidArgument
from services.inference.engines.hf_text import HFText
from services.training.examples import (
    ChatExample,
    CompletionExample,
    Message,
    PreferenceExample,
    Role,
    ToolCall,
)
from services.training.worker.rows import (
    NOT_LEARNT,
    Pair,
    Row,
    RowMaker,
    cut_pair,
    cut_row,
)
from services.weights.chat_text import ChatText
from tests.conformance.tiny_models import CHATML, byte_level_tokenizer

STARTER = Path(__file__).parents[3] / "starters/chat/model"
FORGETFUL = (
    # As models that think: thoughts of earlier turns are left out, and answers are opened with one.
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' and not loop.last %}"
    "{{- message.content.split('</think>')[-1] }}"
    "{%- else %}{{- message.content }}{%- endif %}{{- '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>' }}{%- endif %}"
)
ENDLESS = (
    "{%- for message in messages %}{{- message.role + ': ' + message.content + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- 'assistant: ' }}{%- endif %}"
)


def maker(tokenizer: PreTrainedTokenizerBase, *, learn_all: bool = False) -> RowMaker:
    return RowMaker(ChatText(tokenizer), [tokenizer.eos_token_id], [1], learn_all=learn_all)


def tiny(template: str = CHATML) -> PreTrainedTokenizerBase:
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def user(text: str) -> Message:
    return Message(Role.USER, text)


def says(text: str, weight: int = 1) -> Message:
    return Message(Role.ASSISTANT, text, weight=weight)


def learnt(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[str]:
    """The stretches of a row that are learnt, as text."""
    stretches: list[list[int]] = []
    before = NOT_LEARNT
    for token, label in zip(row.ids, row.labels, strict=True):
        assert label in (token, NOT_LEARNT)
        if label != NOT_LEARNT:
            if before == NOT_LEARNT:
                stretches.append([])
            stretches[-1].append(token)
        before = label
    return [tokenizer.decode(stretch) for stretch in stretches]


def check_serving(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], rows: Sequence[Row]
) -> None:
    """Each answer that is to be learnt follows, in some row, the very prompt that asks for it."""
    text = HFText(tokenizer)
    for position, message in enumerate(messages):
        if message.role is Role.ASSISTANT and message.weight:
            prompt = text.prompt([one.for_template() for one in messages[:position]], [])
            assert any(
                row.ids[: len(prompt)] == prompt and row.labels[len(prompt)] != NOT_LEARNT
                for row in rows
            )


def test_what_the_assistant_says_is_learnt_and_nothing_else() -> None:
    tokenizer = tiny()
    messages = (
        Message(Role.SYSTEM, "Be brief."),
        user("hi"),
        says("hello"),
        user("more"),
        says("no"),
        user("bye"),
    )
    (row,) = maker(tokenizer).chat(ChatExample(messages))
    assert learnt(tokenizer, row) == ["hello<|im_end|>", "no<|im_end|>"]
    assert tokenizer.decode(row.ids).endswith("no<|im_end|>")
    check_serving(tokenizer, messages, [row])


def test_answers_of_weight_zero_are_read_and_not_learnt() -> None:
    tokenizer = tiny()
    messages = (user("a"), says("wrong", weight=0), user("b"), says("right"))
    (row,) = maker(tokenizer).chat(ChatExample(messages))
    assert learnt(tokenizer, row) == ["right<|im_end|>"]
    assert "wrong<|im_end|>" in tokenizer.decode(row.ids)
    assert maker(tokenizer).chat(ChatExample((user("a"), says("b", weight=0)))) == []


def test_everything_is_learnt_where_that_is_wanted() -> None:
    tokenizer = tiny()
    (row,) = maker(tokenizer, learn_all=True).chat(ChatExample((user("a"), says("b"))))
    assert row.labels == [NOT_LEARNT, *row.ids[1:]]
    assert tokenizer.decode(row.ids) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    )


def test_control_tokens_in_examples_stay_text() -> None:
    tokenizer = tiny()
    control = tokenizer.convert_tokens_to_ids("<|im_end|>")
    messages = (user("<|im_end|>"), says("a<|im_end|>b<|im_start|>system"))
    (row,) = maker(tokenizer).chat(ChatExample(messages))
    assert row.ids.count(control) == 2
    assert learnt(tokenizer, row) == ["a<|im_end|>b<|im_start|>system<|im_end|>"]
    check_serving(tokenizer, messages, [row])


def test_templates_that_rewrite_what_was_said_make_a_row_of_each_answer() -> None:
    tokenizer = tiny(FORGETFUL)
    messages = (user("a"), says("<think>x</think>b"), user("c"), says("<think>y</think>d"))
    first, second = maker(tokenizer).chat(ChatExample(messages))
    assert learnt(tokenizer, first) == ["x</think>b<|im_end|>"]
    assert learnt(tokenizer, second) == ["y</think>d<|im_end|>"]
    assert "x</think>" not in tokenizer.decode(second.ids)
    check_serving(tokenizer, messages, [first, second])


def test_answers_that_a_template_does_not_open_are_learnt_from_where_they_differ() -> None:
    tokenizer = tiny(FORGETFUL)
    (row,) = maker(tokenizer).chat(ChatExample((user("a"), says("plain"))))
    assert learnt(tokenizer, row) == ["plain<|im_end|>"]
    assert "<think>" not in tokenizer.decode(row.ids)


def test_an_end_is_put_where_the_template_ends_no_answer() -> None:
    tokenizer = tiny(ENDLESS)
    (row,) = maker(tokenizer).chat(ChatExample((user("a"), says("b"))))
    assert learnt(tokenizer, row) == ["b\n<|im_end|>"]


def test_tool_calls_are_learnt_as_the_model_writes_them() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    call = ToolCall("call_1", "weather", '{"city":"Köln"}')
    tools = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    messages = (
        user("Weather?"),
        Message(Role.ASSISTANT, tool_calls=(call,)),
        Message(Role.TOOL, "rain", tool_call_id="call_1"),
        says("It rains."),
    )
    (row,) = maker(tokenizer).chat(ChatExample(messages, tools))
    made, answer = learnt(tokenizer, row)
    assert made == (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>'
    )
    assert answer == "It rains.<|im_end|>"
    assert "<tools>" in tokenizer.decode(row.ids)


def test_conversations_that_a_template_refuses_are_named() -> None:
    refusing = "{{- raise_exception('only users here') }}"
    with pytest.raises(InvalidArgument, match="only users here"):
        maker(tiny(refusing)).chat(ChatExample((user("a"), says("b"))))


@pytest.mark.parametrize(
    ("prompt", "completion", "expected"),
    [
        ("The fox", " jumps", [" jumps<|im_end|>"]),
        ("", "jumps", ["jumps<|im_end|>"]),
        ("The fox", " jumps<|im_end|>", [" jumps<|im_end|>"]),
        ("The fox", "", ["<|im_end|>"]),
    ],
)
def test_completions_are_learnt_with_their_end(
    prompt: str, completion: str, expected: list[str]
) -> None:
    tokenizer = tiny()
    (row,) = maker(tokenizer).completion(CompletionExample(prompt, completion))
    assert learnt(tokenizer, row) == expected
    served = HFText(tokenizer).encode(prompt, add_special=True) or [1]
    assert row.ids[: len(served)] == served


def test_preferences_are_a_prompt_and_two_answers() -> None:
    tokenizer = tiny()
    example = PreferenceExample((user("a"),), (says("good"),), (says("bad indeed"),))
    pair = maker(tokenizer).preference(example)
    assert pair.prompt == HFText(tokenizer).prompt([user("a").for_template()], [])
    assert tokenizer.decode(pair.chosen) == "good<|im_end|>"
    assert tokenizer.decode(pair.rejected) == "bad indeed<|im_end|>"
    assert pair.token_count == 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected)


def test_answers_that_a_template_opens_differently_share_the_prompt_that_they_can() -> None:
    tokenizer = tiny(FORGETFUL)
    example = PreferenceExample((user("a"),), (says("<think>x"),), (says("plain"),))
    pair = maker(tokenizer).preference(example)
    assert tokenizer.decode(pair.prompt + pair.chosen).endswith("assistant\n<think>x<|im_end|>")
    assert tokenizer.decode(pair.prompt + pair.rejected).endswith("assistant\nplain<|im_end|>")


@given(st.lists(st.text(max_size=12), min_size=2, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_any_conversation_is_read_as_it_is_served(texts: list[str], data: st.DataObject) -> None:
    tokenizer = tiny()
    messages = [
        says(text, data.draw(st.integers(0, 1))) if position % 2 else user(text)
        for position, text in enumerate(texts)
    ]
    rows = maker(tokenizer).chat(ChatExample(tuple(messages)))
    check_serving(tokenizer, messages, rows)
    count = sum(message.weight for message in messages if message.role is Role.ASSISTANT)
    assert sum(len(learnt(tokenizer, row)) for row in rows) == count


@pytest.mark.parametrize(
    ("labels", "most", "kept"),
    [
        ([NOT_LEARNT, NOT_LEARNT, 3, 4], 9, 4),
        ([NOT_LEARNT, NOT_LEARNT, 3, 4], 3, 3),
        ([NOT_LEARNT, NOT_LEARNT, 3, 4], 2, None),
        ([1, NOT_LEARNT, NOT_LEARNT, NOT_LEARNT], 9, None),
    ],
)
def test_long_rows_are_cut_at_the_end(labels: list[int], most: int, kept: int | None) -> None:
    row = cut_row(Row([1, 2, 3, 4], labels), most)
    assert row == (None if kept is None else Row([1, 2, 3, 4][:kept], labels[:kept]))


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (9, Pair([1, 2], [3, 4], [5])),
        (3, Pair([1, 2], [3], [5])),
        (2, None),
        (1, None),
    ],
)
def test_long_pairs_are_cut_at_the_end(most: int, expected: Pair | None) -> None:
    assert cut_pair(Pair([1, 2], [3, 4], [5]), most) == expected
