"""What `penstock serve` prints once everything is ready: where things are, and what to try."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock.model.v1 import model_pb2
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.catalog import kind_name, model_id
from services.cli.output import new_table, printable, state_text
from services.cli.standing import Standing
from services.cli.supervisor import Program
from services.cli.views import remark


@dataclass(frozen=True)
class Welcome:
    """What a person needs once everything is ready."""

    version: str
    url: str
    """Of the edge; empty when it isn't served."""
    admin_key_file: Path
    new_key: str | None = field(repr=False)
    """The admin's key, when it was made at this start."""
    log_dir: Path
    took_s: float
    programs: Sequence[Program]
    models: Sequence[Standing]


def welcome_screen(welcome: Welcome) -> Iterator[RenderableType]:
    """Returns the parts of the screen, to be printed below each other."""
    yield Text.assemble(
        (f"Penstock {welcome.version}", "bold"),
        (f" is ready after {welcome.took_s:.1f} s.", "green"),
    )
    yield ""
    yield _services(welcome)
    yield ""
    if welcome.models:
        yield _models(welcome)
    else:
        yield Text("No models yet: `penstock models deploy` adds one.", style="yellow")
    yield ""
    yield _facts(welcome)
    if welcome.url:
        yield ""
        yield Text("Try:", style="dim")
        yield Text(curl_line(welcome))
    yield ""
    yield Text(f"{_other_commands(welcome)} from another terminal. Ctrl-C stops.", style="dim")


def curl_line(welcome: Welcome) -> str:
    """Returns a command line that shows the platform at work."""
    token = welcome.new_key or f"$(cat {shlex.quote(str(welcome.admin_key_file))})"
    key = f'-H "Authorization: Bearer {token}"'
    chat = [
        standing.model
        for standing in welcome.models
        if standing.model.kind == model_pb2.MODEL_KIND_CHAT and standing.state == "ready"
    ]
    if not chat:
        return f"curl {welcome.url}/v1/models {key}"
    body = f'{{"model":"{model_id(chat[0])}","messages":[{{"role":"user","content":"Hello!"}}]}}'
    return (
        f"curl {welcome.url}/v1/chat/completions {key} "
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _other_commands(welcome: Welcome) -> str:
    has_images = any(
        standing.model.kind == model_pb2.MODEL_KIND_IMAGE and standing.state == "ready"
        for standing in welcome.models
    )
    draws = ', `penstock image "a red circle"` draws' if has_images else ""
    return f"`penstock chat` talks to it{draws}"


def to_json(welcome: Welcome) -> dict[str, object]:
    """Returns the same for scripts."""
    return {
        "version": welcome.version,
        "url": welcome.url or None,
        "api_key": welcome.new_key,
        "api_key_file": str(welcome.admin_key_file),
        "log_dir": str(welcome.log_dir),
        "services": [
            {
                "name": program.name,
                "address": program.address,
                "pid": program.pid,
                "state": program.state.value,
            }
            for program in welcome.programs
        ],
        "models": [
            {
                "id": model_id(standing.model),
                "kind": kind_name(standing.model.kind),
                "state": standing.state,
            }
            for standing in welcome.models
        ],
    }


def _services(welcome: Welcome) -> Table:
    table = new_table("service", "address", "state")
    for program in welcome.programs:
        table.add_row(program.name, program.address, state_text(program.state.value))
    return table


def _models(welcome: Welcome) -> Table:
    table = new_table("model", "kind", "state", "")
    for standing in welcome.models:
        model = standing.model
        note = remark(model) if standing.has_service else "no service for this kind runs here"
        table.add_row(
            Text(printable(model_id(model)), style="bold"),
            kind_name(model.kind),
            state_text(standing.state),
            Text(printable(note)),
        )
    return table


def _facts(welcome: Welcome) -> Table:
    facts = Table.grid(padding=(0, 3, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    if welcome.url:
        facts.add_row("URL", Text(welcome.url, style="bold"))
        facts.add_row("", Text(f"for OpenAI clients: {welcome.url}/v1", style="dim"))
    if welcome.new_key:
        facts.add_row("API key", Text(welcome.new_key, style="bold"))
        kept = f"made just now and kept in {welcome.admin_key_file}"
        facts.add_row("", Text(kept, style="dim"))
    else:
        facts.add_row("API key", f"in {welcome.admin_key_file}")
    facts.add_row("Logs", str(welcome.log_dir))
    return facts
