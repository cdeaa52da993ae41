"""What models think before they answer: found in their text, and kept apart from the answer.

Such models write their thoughts first, between two marks. Some templates open the thought in the
prompt already, and some let callers switch thinking off.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.inference.stops import partial_length


@dataclass(frozen=True, slots=True)
class ThoughtFormat:
    """How a family writes thoughts."""

    begin: str
    end: str
    has_switch: bool = False
    """Whether the template lets callers choose."""

    @property
    def markers(self) -> frozenset[str]:
        """Texts that the reader must see even where they are special tokens."""
        return frozenset((self.begin, self.end))

    def is_opened_by(self, prompt: str) -> bool:
        """Tells whether what follows a prompt is a thought; its end is enough of it."""
        return prompt.rstrip().endswith(self.begin)

    def closing(self, *, opened: bool) -> str:
        """Text behind a prompt that makes the model answer at once."""
        return f"{'' if opened else self.begin}\n\n{self.end}\n\n"


_MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_SWITCHES = ("enable_thinking", "thinking")
"""What templates call the switch: Qwen's and GLM's first, DeepSeek's and Granite's second."""
_SWITCH = re.compile(rf"\b({'|'.join(_SWITCHES)})\b")


def template_options(reasoning: bool | None) -> Mapping[str, Any]:
    """Variables of templates that switch thinking on or off; None: as they have it."""
    return {} if reasoning is None else dict.fromkeys(_SWITCHES, reasoning)


def thought_format(chat_template: str) -> ThoughtFormat | None:
    """The format of models with this template; None where they don't think."""
    for begin, end in _MARKS:
        if end in chat_template:
            return ThoughtFormat(begin, end, bool(_SWITCH.search(chat_template)))
    return None


class _Phase(Enum):
    START = 0
    """The model may begin a thought."""
    THINKING = 1
    ENDED = 2
    """What stands between thought and answer is neither."""
    ANSWERING = 3


class ThoughtReader:
    """Splits one choice's text into a thought and what follows, the same however it is cut.

    Space around a thought, and before the answer, is dropped.
    """

    def __init__(self, format: ThoughtFormat, *, opened: bool) -> None:
        """Takes the format, and whether the prompt has opened a thought."""
        self._format = format
        self._phase = _Phase.THINKING if opened else _Phase.START
        self._held: str = ""
        self._began = False
        self.found = opened
        """Whether there is a thought."""

    @property
    def undecided(self) -> bool:
        """Whether the text so far may be either."""
        return self._phase is _Phase.START

    @property
    def ended(self) -> bool:
        """Whether the thought is over and nothing of the answer has come."""
        return self._phase is _Phase.ENDED

    @property
    def over(self) -> bool:
        """Whether all further text is the answer's."""
        return self._phase is _Phase.ANSWERING

    def feed(self, text: str) -> tuple[str, str]:
        """Takes more text; returns what became certain: more of the thought, and of the answer."""
        text = self._held + text
        self._held = ""
        if self._phase is _Phase.START:
            begun = text.lstrip()
            if begun.startswith(self._format.begin):
                self._phase, self.found = _Phase.THINKING, True
                text = begun[len(self._format.begin) :]
            elif self._format.begin.startswith(begun):
                self._held = text
                return "", ""
            else:
                self._phase = _Phase.ANSWERING
        thought = ""
        if self._phase is _Phase.THINKING:
            thought, text = self._thought(text)
        if self._phase is _Phase.ENDED:
            text = text.lstrip()
            if text:
                self._phase = _Phase.ANSWERING
        return thought, text

    def flush(self) -> tuple[str, str]:
        """Ends the text; returns the thought and the answer in what was still open."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self._phase is _Phase.THINKING else ("", held)

    def _thought(self, text: str) -> tuple[str, str]:
        if not self._began:
            text = text.lstrip()
        inside, found, after = text.partition(self._format.end)
        if found:
            self._phase = _Phase.ENDED
            return inside.rstrip(), after
        certain = text[: len(text) - partial_length(text, self._format.end)].rstrip()
        self._held = text[len(certain) :]
        self._began = self._began or bool(certain)
        return certain, ""
