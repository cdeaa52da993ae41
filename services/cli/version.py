"""`penstock version`."""

import platform
from importlib import metadata

import click

from services.cli.output import Output


def version() -> str:
    """Returns the version that is installed."""
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "0+unknown"


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def version_command(as_json: bool) -> None:
    """Show the version."""
    facts = {
        "penstock": version(),
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
    }
    if as_json:
        Output(as_json).data(facts)
    else:
        click.echo(" · ".join(f"{name} {value}" for name, value in facts.items()))
