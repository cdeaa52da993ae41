"""`penstock health`: whether one process serves, for scripts and orchestrators."""

from pathlib import Path

import click

from policy.pem_files import TlsFileError
from services.cli.failures import Failure
from services.cli.output import Output
from services.cli.target import read_settings
from services.rpc.probe import NAMES, TIMEOUT_S, probe


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--ready", is_flag=True, help="Ask whether it can do its work, not just answer.")
@click.option("--model", default="", metavar="ID", help="Ask whether it serves this model.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.001), default=TIMEOUT_S, show_default=True, help="In s"
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file. Default: $PENSTOCK_CONFIG, else ./penstock.toml.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text, for scripts.")
def health(
    name: str, ready: bool, model: str, timeout: float, config: Path | None, as_json: bool
) -> None:
    """Ask a process on this machine whether it serves. Ends with 1 where it does not.

    It is found by the settings that it reads itself. In images, which have no `penstock`,
    `python -m services.rpc.probe` does the same.
    """
    try:
        settings = read_settings(config, None)
        answer = probe(name, settings, ready=ready, model=model, timeout_s=timeout)
    except TlsFileError as error:
        raise Failure(f"{name}: {error}") from error
    if as_json:
        Output(as_json).data({"name": name, "serving": answer.serving, "answer": answer.words})
    else:
        click.echo(f"{name}: {answer.words}", err=not answer.serving)
    if not answer.serving:
        raise SystemExit(Failure.exit_code)
