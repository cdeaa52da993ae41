"""How a conversation looks: in a terminal, or as JSON lines."""

import importlib
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from penstock.inference.v1 import event_pb2
from rich.status import Status
from rich.text import Text

from services.cli.conversation import Answer
from services.cli.output import Output, printable, to_dict

with suppress(ImportError):  # gives `input` a history and the arrow keys
    importlib.import_module("readline")

PROMPT = "\001\033[1;36m\002{}\001\033[0m\002 › "


class Transcript(Protocol):
    """Shows a conversation."""

    def welcome(self, model: str) -> None:
        """Opens the session."""
        ...

    def read(self, who: str) -> str | None:
        """Asks the person for a line; None when they leave."""
        ...

    def begin(self) -> None:
        """An answer was asked for."""
        ...

    def event(self, event: event_pb2.ChatEvent) -> None:
        """Shows one event of it."""
        ...

    def end(self, answer: Answer) -> None:
        """The answer ended, or was stopped."""
        ...

    def models(self, models: Iterable[str], current: str) -> None:
        """Shows the models to choose from."""
        ...


class JsonTranscript:
    """Writes each event as one line of JSON."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def welcome(self, model: str) -> None:
        """Says nothing."""

    def read(self, who: str) -> str | None:
        """Reads a line, without a prompt."""
        return sys.stdin.readline() or None

    def begin(self) -> None:
        """Says nothing."""

    def event(self, event: event_pb2.ChatEvent) -> None:
        """Writes the event."""
        self._output.data(to_dict(event))

    def end(self, answer: Answer) -> None:
        """Says nothing."""

    def models(self, models: Iterable[str], current: str) -> None:
        """Writes them as a list."""
        self._output.data({"models": list(models), "current": current})


class Terminal:
    """Streams answers into a terminal, or into a pipe without the trimmings."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._talks = False
        self._status: Status | None = None
        self._asked = 0.0
        self._first: float | None = None
        self._column = ""
        self._thinks = False

    def welcome(self, model: str) -> None:
        """Says whom you talk to."""
        self._talks = True
        self._output.out.print(Text.assemble(("Talking to ", "dim"), (printable(model), "bold")))
        self._output.out.print(
            Text("/help shows the commands, Ctrl-C stops an answer, Ctrl-D leaves.", style="dim")
        )

    def read(self, who: str) -> str | None:
        """Asks for a line, or several that end in a backslash."""
        prompt = PROMPT.format(printable(who)) if sys.stdout.isatty() else f"{who} › "
        lines: list[str] = []
        while True:
            try:
                line = input(prompt if not lines else "… ")
            except EOFError:
                self._output.out.print()
                return None
            except KeyboardInterrupt:  # as in a shell: drops the line
                self._output.out.print()
                lines.clear()
                continue
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)

    def begin(self) -> None:
        """Shows that something happens."""
        self._asked, self._first, self._column = time.monotonic(), None, ""
        self._thinks = False
        if self._output.err.is_terminal:
            self._status = self._output.err.status(Text("thinking", style="dim"))
            self._status.start()

    def event(self, event: event_pb2.ChatEvent) -> None:
        """Writes text as it comes, and in a terminal what the model thinks before."""
        kind = event.WhichOneof("event")
        if kind in {"delta", "tool_delta", "reasoning_delta"} and self._first is None:
            self._first = time.monotonic()
        if kind == "reasoning_delta" and self._output.out.is_terminal:
            self._quiet()
            self._thinks = True
            thought = Text(printable(event.reasoning_delta.text), style="dim italic")
            self._output.out.print(thought, end="", soft_wrap=True)
        text = printable(event.delta.text)
        if text:
            self._quiet()
            sys.stdout.write("\n\n" * self._thinks + text)
            sys.stdout.flush()
            self._thinks, self._column = False, text[-1]

    def end(self, answer: Answer) -> None:
        """Closes the answer: tool calls, and in a conversation what it took."""
        self._quiet()
        if self._thinks or (self._column and self._column != "\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
        for _, call in sorted(answer.calls.items()):
            self._output.out.print(
                Text.assemble(
                    ("→ ", "yellow"),
                    (printable(call.name), "bold yellow"),
                    "(",
                    printable(call.arguments_json),
                    ")",
                )
            )
        if answer.reason == event_pb2.FINISH_REASON_LENGTH:
            self._output.note("[cut: the limit of tokens is reached]", "yellow")
        elif answer.reason == event_pb2.FINISH_REASON_CONTENT_FILTER:
            self._output.note("[cut: by a content filter]", "yellow")
        if self._talks and answer.usage:
            self._output.note(self._took(answer))

    def models(self, models: Iterable[str], current: str) -> None:
        """Lists them, with a mark at the present one."""
        for model in models:
            self._output.say(f"{'●' if model == current else ' '} {printable(model)}")

    def _took(self, answer: Answer) -> str:
        tokens = answer.usage.completion_tokens if answer.usage else 0
        now = time.monotonic()
        facts = [f"{tokens} token{'' if tokens == 1 else 's'}"]
        if self._first is not None:
            facts.append(f"first after {self._first - self._asked:.2f} s")
            if tokens > 1 and now > self._first + 0.05:  # all at once tells no rate
                facts.append(f"{(tokens - 1) / (now - self._first):.0f} tokens/s")
        return "  " + " · ".join(facts)

    def _quiet(self) -> None:
        if self._status:
            self._status.stop()
            self._status = None
