"""The `penstock` command."""

import click

from services.cli.ask import ask
from services.cli.batches import batches
from services.cli.chat import chat
from services.cli.collection_commands import collections
from services.cli.docs import docs
from services.cli.files import files
from services.cli.health import health
from services.cli.image import image
from services.cli.keys import keys
from services.cli.models import models
from services.cli.serve import serve
from services.cli.status import status
from services.cli.train import train
from services.cli.triton import triton
from services.cli.usage import usage
from services.cli.version import version_command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Penstock: self-hosted AI inference over gRPC and HTTP.

    `penstock serve` starts everything here. The other commands talk to a platform that runs: the
    one of the data directory, or one that options and PENSTOCK_… variables name.
    """


for command in (
    *(serve, chat, ask, image, docs, collections, files, batches, train),
    *(models, triton, keys, usage, status, health, version_command),
):
    main.add_command(command)

if __name__ == "__main__":
    main()
