"""A command is imported when it is asked for, and with it nothing of the others."""

import subprocess
import sys

import click
import pytest

from services.cli.main import main

CONTEXT = click.Context(main)


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_each_is_found_by_its_name(name: str) -> None:
    command = main.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert main.get_command(CONTEXT, name) is command


def test_there_are_no_others() -> None:
    assert main.get_command(CONTEXT, "serves") is None


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("", ("grpc", "rich", "services.settings")),
        # Clients neither limit requests nor look into certificates.
        ("usage", ("limits", "cryptography", "jwt", "services.cli.serve")),
    ],
)
def test_what_is_not_needed_is_not_imported(command: str, left_out: tuple[str, ...]) -> None:
    program = (
        "import sys, click; from services.cli.main import main;"
        "main.get_command(click.Context(main), sys.argv[1]); print(*sys.modules)"
    )
    words = [sys.executable, "-c", program, command]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    assert not {*ran.stdout.split()} & {*left_out}
