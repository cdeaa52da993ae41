"""What `penstock serve` is going to start, and with which addresses and settings."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from services.cli.environment import service_environment
from services.cli.failures import Failure, UsageFailure
from services.cli.ports import Address, free_port, is_free, next_free_port, parse_address
from services.cli.roster import EDGE, Entry
from services.settings import ServiceSettings, ServicesSettings, Settings

_WITHOUT_MODELS = "echo"
"""The engine that needs no model: every service that has models has it."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    config: Path | None = None
    data_dir: Path | None = None
    host: str | None = None
    port: int | None = None
    engine: str | None = None
    log_level: str | None = None

    def overrides(self, settings: Settings) -> dict[str, object]:
        """Returns it as settings; those given show the address that host and port only change."""
        found: dict[str, object] = {}
        if self.host is not None or self.port is not None:
            address = parse_address(settings.api.address)
            host = address.host if self.host is None else self.host
            port = address.port if self.port is None else self.port
            found["api.address"] = str(Address(host, port))
        for name, engine in self.engines(settings.services).items():
            found[f"services.{name}.engine"] = engine
        if self.log_level:
            found["log.level"] = self.log_level
        return found

    def engines(self, services: ServicesSettings) -> dict[str, str]:
        """Returns the engines that the command line chooses, by service."""
        if not self.engine:
            return {}
        if self.engine != _WITHOUT_MODELS:
            return {"inference": self.engine}
        names = (item.name for item in fields(services))
        return {name: self.engine for name in names if hasattr(getattr(services, name), "engine")}


@dataclass(frozen=True)
class Plan:
    """What to start."""

    entries: Sequence[Entry]
    addresses: Mapping[str, Address]
    environment: Mapping[str, str] = field(repr=False)
    moved: Mapping[str, Address]
    """Services that had to leave their default port, and the address that was taken."""


def make_plan(entries: Sequence[Entry], settings: Settings, wish: Wish, service_token: str) -> Plan:
    """Decides on addresses. Raises Failure when one that was asked for is taken."""
    addresses: dict[str, Address] = {}
    moved: dict[str, Address] = {}
    for entry in entries:
        if entry is EDGE:
            addresses[entry.name] = edge_address(settings.api.address)
            continue
        service: ServiceSettings = getattr(settings.services, entry.name)
        standard: ServiceSettings = getattr(Settings().services, entry.name)
        address = _parse(service.address, f"services.{entry.name}.address")
        if not _free(address, f"services.{entry.name}.address"):
            explicit = service.address != standard.address or service.target != service.address
            if explicit:
                raise _taken(entry.name, address, f"[services.{entry.name}] address")
            moved[entry.name] = address
            taken = {other.port for other in addresses.values()}
            address = Address(address.host, free_port(address.host, taken))
        addresses[entry.name] = address
    return Plan(
        entries=entries,
        addresses=addresses,
        environment=_environment(addresses, settings, wish, service_token),
        moved=moved,
    )


def edge_address(text: str) -> Address:
    """Returns the edge's address. Raises Failure when it is taken, or isn't one."""
    address = _parse(text, "api.address")
    if address.port and not _free(address, "api.address"):
        raise _taken(EDGE.name, address, "--port")
    return address


def command(entry: Entry, plan: Plan, data_dir: Path, config: Path | None) -> list[str]:
    """Returns the command line of a program. `-P` keeps the working directory's modules out."""
    words = [sys.executable, "-P", "-m", entry.module]
    words += ["--port", str(plan.addresses[entry.name].port), "--data-dir", str(data_dir)]
    if config is not None:
        words += ["--config", str(config.absolute())]
    return words


def _environment(
    addresses: Mapping[str, Address], settings: Settings, wish: Wish, service_token: str
) -> dict[str, str]:
    ours = {
        "PENSTOCK_DATA_DIR": str(settings.services.data_dir.absolute()),
        "PENSTOCK_SERVICE_TOKEN": service_token,
        "PYTHONUNBUFFERED": "1",
    }
    for name, address in addresses.items():
        section = "API" if name == EDGE.name else f"SERVICES_{name.upper()}"
        ours[f"PENSTOCK_{section}_ADDRESS"] = str(address)
    for name, engine in wish.engines(settings.services).items():
        ours[f"PENSTOCK_SERVICES_{name.upper()}_ENGINE"] = engine
    if wish.log_level:
        ours["PENSTOCK_LOG_LEVEL"] = wish.log_level
    return service_environment() | ours


def _parse(text: str, key: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise UsageFailure(f"The address is wrong: {error}.", field=key) from None


def _free(address: Address, key: str) -> bool:
    try:
        return address.port == 0 or is_free(address)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageFailure(
            f"Nothing can listen on {address}: {why}.",
            hint="The host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0, "
            "and ports below 1024 need rights.",
            field=key,
        ) from None


def _taken(name: str, address: Address, how: str) -> Failure:
    other = next_free_port(address)
    if name == EDGE.name:
        hint = f"Stop it, or choose another port: penstock serve --port {other or 'N'}"
    else:
        hint = f"Stop it, or change {how}; without one a free port is taken."
    return UsageFailure(
        f"{address}, where {name} shall listen, is taken by another program.", hint=hint
    )
