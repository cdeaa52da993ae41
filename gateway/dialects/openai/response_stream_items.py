"""Items of a streamed response while they are being generated. No I/O."""

from dataclasses import dataclass, field
from typing import ClassVar

from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.answer_schema import TokenLogprob


@dataclass(slots=True)
class OpenReasoning:
    """A thought."""

    kind: ClassVar[str] = "reasoning_text"
    """What its events are called."""

    id: str
    text: list[str] = field(default_factory=list[str])

    def item(self, status: answers.ItemStatus) -> answers.ReasoningItem:
        """Renders the item; there is nothing in it yet while it is in progress."""
        content = [] if status == "in_progress" else [self.part()]
        return answers.ReasoningItem(id=self.id, status=status, content=content)

    def part(self) -> answers.ReasoningText:
        """Renders its only part."""
        return answers.ReasoningText(text="".join(self.text))


@dataclass(slots=True)
class OpenMessage:
    """A message that is being said."""

    kind: ClassVar[str] = "output_text"
    """What its events are called."""

    id: str
    text: list[str] = field(default_factory=list[str])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    def item(self, status: answers.ItemStatus) -> answers.OutputMessage:
        """Renders the item; there is nothing in it yet while it is in progress."""
        content = [] if status == "in_progress" else [self.part()]
        return answers.OutputMessage(id=self.id, status=status, content=content)

    def part(self) -> answers.OutputText:
        """Renders its only part."""
        return answers.OutputText(text="".join(self.text), logprobs=self.logprobs)


@dataclass(slots=True)
class OpenCall:
    """A call that is being written."""

    id: str
    index: int
    call_id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])

    def item(self, status: answers.ItemStatus) -> answers.FunctionCallItem:
        """Renders the item."""
        return answers.FunctionCallItem(
            id=self.id,
            status=status,
            call_id=self.call_id,
            name=self.name,
            arguments="".join(self.arguments),
        )
