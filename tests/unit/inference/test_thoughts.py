"""Thoughts are found however text is cut, and nothing of the answer is lost."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.inference.thoughts import ThoughtFormat, ThoughtReader, thought_format

THINK = ThoughtFormat("<think>", "</think>")


def read(pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    """What a reader makes of a text in pieces."""
    reader = ThoughtReader(THINK, opened=opened)
    found = [reader.feed(piece) for piece in pieces] + [reader.flush()]
    return "".join(thought for thought, _ in found), "".join(answer for _, answer in found)


@pytest.mark.parametrize(
    ("text", "opened", "thought", "answer"),
    [
        ("<think>\nhm\n</think>\n\nhello", False, "hm", "hello"),
        ("hm\n</think>\n\nhello\n", True, "hm", "hello\n"),
        ("\n <think>a b</think>c", False, "a b", "c"),
        ("<think></think>c", False, "", "c"),
        ("</think>", True, "", ""),
        ("hello <think>no</think>", False, "", "hello <think>no</think>"),
        ("  hello", False, "", "  hello"),
        ("<thin", False, "", "<thin"),
        ("<thing>", False, "", "<thing>"),
        ("<think>cut off", False, "cut off", ""),
        ("<think>cut off </thi", False, "cut off </thi", ""),
        ("<think>a</think>b</think>c<think>d", False, "a", "b</think>c<think>d"),
        ("<think>a < b\n\n\nc</think>", False, "a < b\n\n\nc", ""),
        ("", False, "", ""),
        (" \n", False, "", " \n"),
    ],
)
def test_a_thought_is_told_apart(text: str, opened: bool, thought: str, answer: str) -> None:
    assert read([text], opened=opened) == (thought, answer)
    assert read(list(text), opened=opened) == (thought, answer)


_TEXT = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "think", ">", " ", "\n", "a", "é"])
).map("".join)


@given(text=_TEXT, opened=st.booleans(), data=st.data())
@example(text="<think> </think> a", opened=False, data=None)
def test_cuts_change_nothing(text: str, opened: bool, data: st.DataObject | None) -> None:
    whole = read([text], opened=opened)
    assert read(list(text), opened=opened) == whole
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
        bounds = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in pairwise(bounds)]
        assert read(pieces, opened=opened) == whole
    if not opened and not text.lstrip().startswith("<think>"):
        assert whole == ("", text)
    else:
        begun = text if opened else text.lstrip().removeprefix("<think>")
        thought, _, answer = begun.partition("</think>")
        wanted = thought.strip()
        assert whole == (wanted, answer.lstrip())


def test_what_is_certain_comes_at_once() -> None:
    reader = ThoughtReader(THINK, opened=False)
    assert reader.feed("<think>ab") == ("ab", "")
    assert reader.feed("c </th") == ("c", "")
    assert reader.feed("e d") == (" </the d", "")
    assert reader.feed("</think>") == ("", "")
    assert not reader.over
    assert reader.feed("\n") == ("", "")
    assert reader.feed(" x ") == ("", "x ")
    assert reader.over
    assert reader.feed(" y") == ("", " y")


QWEN = "{% if enable_thinking is defined %}<think>\n\n</think>{% endif %}{{ message.content }}"
DEEPSEEK = "{{ content.split('</think>')[-1] }}{{ '<｜Assistant｜><think>\\n' }}"


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (QWEN, ThoughtFormat("<think>", "</think>", has_switch=True)),
        (DEEPSEEK, THINK),
        ("{% if thinking %}<think>{% else %}</think>{% endif %}", ThoughtFormat(
            "<think>", "</think>", has_switch=True)),
        ("[THINK]{{ t }}[/THINK]", ThoughtFormat("[THINK]", "[/THINK]")),
        ("{{ rethinking }}</think>", THINK),
        ("{{ messages }}", None),
        ("", None),
    ],
)  # fmt: skip
def test_templates_tell_how_models_think(template: str, format: ThoughtFormat | None) -> None:
    assert thought_format(template) == format


def test_prompts_tell_whether_they_open_a_thought() -> None:
    assert THINK.is_opened_by("hi<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert not THINK.is_opened_by("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not THINK.is_opened_by("<|im_start|>assistant\n")
    assert THINK.closing(opened=True) == "\n\n</think>\n\n"
    assert THINK.closing(opened=False) == "<think>\n\n</think>\n\n"
