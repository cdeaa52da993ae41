"""What `penstock serve` shows: progress, a table when all is ready, and what goes wrong later."""

import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from services.cli.catalog import model_id, progress_of
from services.cli.output import STATE_STYLES, Output, printable, state_text
from services.cli.ports import Address
from services.cli.standing import Standing
from services.cli.supervisor import Program, State
from services.cli.welcome import Welcome, welcome_screen

ACCESS_LOG = " penstock.access: "
FLOOD_LINES, FLOOD_S = 8, 10.0
"""Lines that a program may put on the screen within that many seconds."""
NAME_STYLES = ("cyan", "magenta", "blue", "green", "yellow", "bright_cyan", "bright_magenta")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|\"level\": ?\"(\w+)\"", re.IGNORECASE)


def level_of(line: str) -> str | None:
    """Returns the level that a log line names, in capitals; None for lines without one."""
    match = _LEVEL.search(line[:160])
    return (match[1] or match[2]).upper() if match else None


class Screen:
    """Shows the life of a supervisor. With --json, stdout holds nothing but the JSON line."""

    def __init__(self, output: Output, programs: Sequence[str], *, verbose: bool = False) -> None:
        self._output = output
        self._console = output.err if output.as_json else output.out
        self._styles = {
            name: NAME_STYLES[number % len(NAME_STYLES)] for number, name in enumerate(programs)
        }
        self._width = max(map(len, programs), default=0)
        self._verbose = verbose
        self._programs: dict[str, Program] = {}
        self._models: Sequence[Standing] = ()
        self._model_states: dict[str, str] = {}
        self._live: Live | None = None
        self._is_ready = False
        self._spoken: dict[str, tuple[float, int]] = {}
        self._shown = {"ERROR", "CRITICAL"}
        self._tails: dict[str, list[str]] = {}
        self._levels: dict[str, str] = {}
        self._restarted: dict[str, float] = {}

    # What the supervisor tells.

    def line(self, program: Program, line: str) -> None:
        """Shows a program's warnings and errors; with --verbose everything."""
        level = level_of(line) or self._levels.get(program.name, "INFO")
        self._levels[program.name] = level  # a traceback's lines have none of their own
        if not self._verbose and (level not in self._shown or not self._may_speak(program, line)):
            return
        text = self._name(program.name)
        style = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}.get(level, "")
        text.append(printable(line), style=style)
        self._console.print(text, soft_wrap=True)

    def changed(self, program: Program) -> None:
        """Takes note of a program's state."""
        self._programs[program.name] = program
        if program.state is State.READY:
            self._levels.pop(program.name, None)
            if died := self._restarted.pop(program.name, None):
                took = time.monotonic() - died
                self._tell(program.name, f"is ready again after {took:.1f} s.", "green")
            elif not self._shows_progress:
                self._tell(program.name, f"is ready at {program.address}.")
        self._draw()

    def died(self, program: Program, how: str, wait_s: float) -> None:
        """Says that a program ended and is started again."""
        self._restarted.setdefault(program.name, time.monotonic())
        self._tell(program.name, f"{how}. Restarting in {wait_s:.1f} s.", "yellow")
        tail = program.log.tail[-3:]
        was_killed = "was killed by SIGKILL" in how  # then its last words say nothing
        if self._verbose or was_killed or tail == self._tails.get(program.name):
            return
        self._tails[program.name] = tail
        for line in tail:
            text = self._name(program.name).append(printable(line), style="dim")
            self._console.print(text, soft_wrap=True)

    # The start.

    def moved(self, name: str, taken: Address, address: Address) -> None:
        """Says that a service has another port than usual."""
        text = f"{taken} is taken: {name} listens on {address} instead."
        self._console.print(Text(text, style="yellow"))

    @contextmanager
    def starting(self) -> Generator[None]:
        """Shows progress within the block."""
        if not self._shows_progress:
            yield
            return
        self._live = Live(
            self._progress(), console=self._console, transient=True, refresh_per_second=10
        )
        with self._live:
            yield
        self._live = None

    def models(self, models: Sequence[Standing]) -> None:
        """Takes note of where the models stand; says what changed unless progress shows it."""
        self._models = models
        names = {standing.model.name for standing in models}
        for gone in self._model_states.keys() - names:
            del self._model_states[gone]
            self._tell(gone.removeprefix("models/"), "is removed.")
        for standing in models:
            name, state = standing.model.name, standing.state
            if self._model_states.get(name) == state:
                continue
            self._model_states[name] = state
            if self._is_ready or not self._shows_progress:
                why = f"failed: {standing.model.state_message}"
                text = why if state == "failed" else f"is {state}."
                style = STATE_STYLES.get(state, "")
                self._tell(model_id(standing.model), printable(text), style)
        self._draw()

    def failed(self, program: Program, how: str) -> None:
        """Says why the platform can't start, with the end of the program's log."""
        tail = program.log.tail
        if tail:
            self._output.err.print(Text(f"The last lines of {program.name}:", style="dim"))
            for line in tail[-20:]:
                self._output.err.print(Text("  " + printable(line)), soft_wrap=True)
        self._output.err.print(
            Text.assemble(
                ("Error: ", "bold red"),
                f"{program.name} {how}. ",
                ("Its whole log is ", "dim"),
                (str(program.log.path), "dim"),
            ),
            soft_wrap=True,
        )

    # Ready, and the end.

    def ready(self, welcome: Welcome) -> None:
        """Shows the table."""
        self._is_ready = True
        self._shown.add("WARNING")  # while things start, they miss each other
        self._console.print()
        for part in welcome_screen(welcome):
            self._console.print(part, soft_wrap=True)

    def stopping(self) -> None:
        """Says that everything stops."""
        self._shown.clear()
        if self._live:
            self._live.stop()
            self._live = None
        self._console.print(
            Text(
                "Stopping: requests that run finish first. Ctrl-C again stops at once.", style="dim"
            )
        )

    def stopped(self) -> None:
        """Says that everything has stopped."""
        self._console.print(Text("Stopped.", style="dim"))

    # Parts.

    def _may_speak(self, program: Program, line: str) -> bool:
        """Tells whether to show one more line of a program, lest a flood hides all else."""
        if ACCESS_LOG in line:  # one per request; the edge tells of those that fail
            return False
        now = time.monotonic()
        since, count = self._spoken.get(program.name, (now, 0))
        if now - since > FLOOD_S:
            since, count = now, 0
        self._spoken[program.name] = (since, count + 1)
        if count == FLOOD_LINES:
            self._console.print(
                self._name(program.name).append(f"… more in {program.log.path}", style="dim"),
                soft_wrap=True,
            )
        return count < FLOOD_LINES

    @property
    def _shows_progress(self) -> bool:
        return self._console.is_terminal and not self._verbose

    def _name(self, name: str) -> Text:
        return Text.assemble((name.ljust(self._width), self._styles.get(name, "")), (" │ ", "dim"))

    def _tell(self, name: str, text: str, style: str = "") -> None:
        self._console.print(
            Text.assemble((printable(name), "bold"), (f" {text}", style)), soft_wrap=True
        )

    def _draw(self) -> None:
        if self._live:
            self._live.update(self._progress())

    def _progress(self) -> RenderableType:
        rows = Table.grid(padding=(0, 1))
        for program in self._programs.values():
            rows.add_row(
                self._mark(program.state is State.READY), program.name,
                state_text(program.state.value), Text(program.address, style="dim"),
            )  # fmt: skip
        for standing in self._models:
            progress = progress_of(standing.model)
            rows.add_row(
                self._mark(standing.is_settled),
                printable(model_id(standing.model)),
                state_text(standing.state),
                Text(f"{progress:.0%}" if progress is not None else "", style="dim"),
            )
        return Group(Text("Starting Penstock", style="bold"), rows)

    def _mark(self, done: bool) -> RenderableType:
        return Text("✓", style="green") if done else Spinner("dots", style="yellow")
