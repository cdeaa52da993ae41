"""Makes tokens of examples, and says which of them are learnt.

The tokens are those of serving: a prompt is made of a conversation just as a chat is served, and an
answer is what the model is to say behind it, up to the token that ends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.training.examples import (
    ChatExample,
    CompletionExample,
    Message,
    PreferenceExample,
    Role,
)
from services.weights.chat_text import ChatText, Turns

NOT_LEARNT = -100
"""Label of tokens that carry no loss."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the model reads in one go, and what it learns of that."""

    ids: list[int]
    labels: list[int]
    """The same IDs; `NOT_LEARNT` for those that are only read."""

    @property
    def token_count(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids)

    @property
    def length(self) -> int:
        """Length of the sequence."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two answers."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def token_count(self) -> int:
        """Tokens that the model reads: both answers with their prompt."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    @property
    def length(self) -> int:
        """Length of the longer sequence."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


class RowMaker:
    """Makes rows of examples.

    Args:
        text: of the model.
        ends: tokens that end an answer; the first is put where a template ends none.
        opening: tokens that stand for an empty prompt.
        learn_all: whether prompts are learnt, too.
    """

    def __init__(
        self, text: ChatText, ends: Sequence[int], opening: Sequence[int], *, learn_all: bool
    ) -> None:
        self._text = text
        self._ends = tuple(ends)
        self._opening = list(opening)
        self._learn_all = learn_all

    def chat(self, example: ChatExample) -> list[Row]:
        """A conversation: one row, or several where the template rewrites what was said before.

        Raises:
            InvalidArgument: the template refuses the conversation.
        """
        turns, tools, sentinel = self._marked(example.messages, example.tools)
        if self._learn_all:
            whole = self._text.render(turns, tools, add_generation_prompt=False)
            return [_learnt(self._text.encode_marked(whole, sentinel))]
        rows: list[Row] = []
        for position, message in enumerate(example.messages):
            if message.role is not Role.ASSISTANT or not message.weight:
                continue
            prompt, answer = self._exchange(
                turns[:position], turns[position : position + 1], tools, sentinel
            )
            before = rows[-1].ids if rows else []
            labels = [NOT_LEARNT] * len(prompt)
            if rows and prompt[: len(before)] == before:
                labels = rows.pop().labels + labels[len(before) :]
            rows.append(Row(prompt + answer, labels + answer))
        return rows

    def completion(self, example: CompletionExample) -> list[Row]:
        """A text and how it goes on."""
        prompt = self._text.encode(example.prompt, add_special=True) or self._opening
        answer = self._ended(self._text.encode(example.completion))
        if self._learn_all:
            return [_learnt(prompt + answer)]
        return [Row(prompt + answer, [NOT_LEARNT] * len(prompt) + answer)]

    def preference(self, example: PreferenceExample) -> Pair:
        """A conversation and two answers.

        Raises:
            InvalidArgument: the template refuses it.
        """
        count = len(example.messages)
        all_turns = [*example.messages, *example.preferred, *example.non_preferred]
        turns, tools, sentinel = self._marked(all_turns, example.tools)
        split = count + len(example.preferred)
        prompt, chosen = self._exchange(turns[:count], turns[count:split], tools, sentinel)
        other, rejected = self._exchange(turns[:count], turns[split:], tools, sentinel)
        if other != prompt:
            # The template begins the answers differently: what they have in common is the prompt.
            common = _common(prompt, other)
            chosen, rejected = prompt[common:] + chosen, other[common:] + rejected
            prompt = prompt[:common]
        return Pair(prompt, chosen, rejected)

    def _marked(self, messages: Sequence[Message], tools: Turns) -> tuple[Turns, Turns, str]:
        return self._text.marked([message.for_template() for message in messages], tools)

    def _exchange(
        self, turns: Turns, answer: Turns, tools: Turns, sentinel: str
    ) -> tuple[list[int], list[int]]:
        """Tokens of the prompt that asks for an answer, and of the answer."""
        asked = self._text.render(turns, tools)
        whole = self._text.render([*turns, *answer], tools, add_generation_prompt=False)
        # Some templates open answers with what they leave out of finished ones, such as thoughts.
        common = _common(asked, whole)
        said = self._text.encode_marked(whole[common:], sentinel)
        return self._text.encode_marked(asked[:common], sentinel), self._ended(said)

    def _ended(self, answer: list[int]) -> list[int]:
        """The answer up to the last token that ends it: the model never writes what follows."""
        for position in reversed(range(len(answer))):
            if answer[position] in self._ends:
                return answer[: position + 1]
        return [*answer, *self._ends[:1]]


def _learnt(ids: list[int]) -> Row:
    """A row of which everything is learnt: all but the first token, which nothing precedes."""
    return Row(ids, [NOT_LEARNT, *ids[1:]])


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """Length of what two begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def cut_row(row: Row, most: int) -> Row | None:
    """The row without what is too long; None where nothing to learn is left."""
    if row.length > most:
        row = Row(row.ids[:most], row.labels[:most])
    learnt = any(label != NOT_LEARNT for label in row.labels[1:])
    return row if learnt else None


def cut_pair(pair: Pair, most: int) -> Pair | None:
    """The pair without what is too long; None where an answer isn't left."""
    room = most - len(pair.prompt)
    if pair.length > most:
        pair = Pair(pair.prompt, pair.chosen[: max(0, room)], pair.rejected[: max(0, room)])
    return pair if pair.chosen and pair.rejected and pair.prompt else None
