"""Where the platform is reached, and with which key."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.environment import service_environment
from services.cli.failures import UsageFailure
from services.cli.record import Record, read_record
from services.settings import Settings, SettingsError, load


@dataclass(frozen=True)
class Choices:
    """What the command line says about it; None where it says nothing."""

    config: Path | None = None
    data_dir: Path | None = None
    model_address: str | None = None
    inference_address: str | None = None
    retrieval_address: str | None = None
    image_address: str | None = None
    training_address: str | None = None
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Target:
    """A platform to talk to."""

    settings: Settings
    data_dir: Path
    model_address: str
    inference_address: str
    retrieval_address: str
    image_address: str
    training_address: str
    api_key: str = field(repr=False)
    """Empty: none was found."""
    record: Record | None
    """What the supervisor of the data directory says, if one runs."""

    @property
    def token_file(self) -> Path:
        """The file of API keys."""
        return self.settings.auth.token_file

    @property
    def key_hint(self) -> str:
        """Says how to give a key."""
        return (
            "Give a key with --api-key or PENSTOCK_API_KEY. A local server's own lies in "
            f"{self.data_dir / 'admin-key'}; --data-dir names another directory."
        )


def find_target(choices: Choices) -> Target:
    """Finds the platform: what the command line says, else a running supervisor, else the settings.

    An address from the environment or the configuration file, where it isn't the default, comes
    before the supervisor's. Raises Failure when the settings can't be read.
    """
    settings = read_settings(choices.config, choices.data_dir)
    data_dir = settings.services.data_dir.absolute()
    record = read_record(data_dir)
    services, defaults = settings.services, Settings().services
    running: Mapping[str, str] = record.addresses if record else {}

    def address(given: str | None, configured: str, default: str, name: str) -> str:
        if given or configured != default:
            return given or configured
        return running.get(name, configured)

    return Target(
        settings=settings,
        data_dir=data_dir,
        model_address=address(
            choices.model_address,
            services.model.target,
            defaults.model.address,
            "model",
        ),
        inference_address=address(
            choices.inference_address,
            services.inference.target,
            defaults.inference.address,
            "inference",
        ),
        retrieval_address=address(
            choices.retrieval_address,
            services.retrieval.target,
            defaults.retrieval.address,
            "retrieval",
        ),
        image_address=address(
            choices.image_address,
            services.image.target,
            defaults.image.address,
            "image",
        ),
        training_address=address(
            choices.training_address,
            services.training.target,
            defaults.training.address,
            "training",
        ),
        api_key=choices.api_key or _admin_key(data_dir) or settings.api.api_key,
        record=record,
    )


def read_settings(
    config: Path | None, data_dir: Path | None, overrides: dict[str, object] | None = None
) -> Settings:
    """Reads the settings. Raises Failure, with exit code 2, when they are wrong."""
    overrides = dict(overrides or {})
    if data_dir is not None:
        overrides["services.data_dir"] = str(data_dir.absolute())
    try:
        return load(config, service_environment(), overrides)
    except SettingsError as error:
        raise UsageFailure(
            f"The configuration is wrong: {error}" + ("" if str(error).endswith("?") else "."),
            hint="docs/configuration.md lists every key.",
        ) from error


def _admin_key(data_dir: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return (data_dir / "admin-key").read_text(encoding="utf-8").strip()
    return ""
