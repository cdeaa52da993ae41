"""The `penstock` command."""

import pkgutil

import click

_COMMANDS = {
    "serve": "services.cli.serve:serve",
    "chat": "services.cli.chat:chat",
    "ask": "services.cli.ask:ask",
    "image": "services.cli.image:image",
    "docs": "services.cli.docs:docs",
    "collections": "services.cli.collection_commands:collections",
    "files": "services.cli.files:files",
    "batches": "services.cli.batches:batches",
    "train": "services.cli.train:train",
    "models": "services.cli.models:models",
    "triton": "services.cli.triton:triton",
    "keys": "services.cli.keys:keys",
    "usage": "services.cli.usage:usage",
    "status": "services.cli.status:status",
    "health": "services.cli.health:health",
    "version": "services.cli.version:version_command",
}


class Commands(click.Group):
    """Imports a command when it is asked for: all of them take longer than most of them run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names, in order."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of a name."""
        if cmd_name not in self.commands and cmd_name in _COMMANDS:
            self.add_command(pkgutil.resolve_name(_COMMANDS[cmd_name]), cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Penstock: self-hosted AI inference over gRPC and HTTP.

    `penstock serve` starts everything here. The other commands talk to a platform that runs: the
    one of the data directory, or one that options and PENSTOCK_… variables name.
    """


if __name__ == "__main__":
    main()
