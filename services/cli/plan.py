"""What `penstock serve` is going to start, and with which addresses and settings."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from socket import socket

from services.cli.environment import service_environment
from services.cli.failures import Failure, UsageFailure
from services.cli.ports import Address, free_port, listen, next_free_port, parse_address
from services.cli.roster import EDGE, Entry
from services.settings import ServiceSettings, ServicesSettings, Settings

_WITHOUT_MODELS = "echo"
"""The engine that needs no model: every service that has models has it."""
_SOMEBODY = "another program"


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
            address = _parse(settings.api.address, _key(EDGE.name))
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
    later: frozenset[str] = frozenset()
    """Services that start once the models of the others are there."""


def make_plan(entries: Sequence[Entry], settings: Settings, wish: Wish, service_token: str) -> Plan:
    """Decides on addresses. Raises Failure when one that was asked for is taken."""
    wanted = {
        entry.name: _parse(_address(entry.name, settings), _key(entry.name)) for entry in entries
    }
    reserved = {address.port for address in wanted.values()}
    addresses: dict[str, Address] = {}
    moved: dict[str, Address] = {}
    # What was asked for comes first, the edge's before all: the rest gives way.
    order = sorted(wanted, key=lambda name: (_may_move(name, settings), name != EDGE.name))
    with ExitStack() as listeners:  # so that no two of ours find the same address free
        for name in order:
            address = wanted[name]
            listener = _listen(address, _key(name))
            if listener is not None:
                listeners.enter_context(listener)
            elif address.port and not _may_move(name, settings):
                raise _taken(name, address, _owner(address, addresses))
            elif name != EDGE.name:  # the others are told where it is before it runs
                if address.port:
                    moved[name] = address
                address = Address(address.host, free_port(address.host, reserved))
                reserved.add(address.port)
            addresses[name] = address
    return Plan(
        entries=entries,
        addresses=addresses,
        environment=_environment(addresses, settings, wish, service_token),
        moved=moved,
        later=later(entries, settings, len(os.sched_getaffinity(0))),
    )


def later(entries: Sequence[Entry], settings: Settings, cores: int) -> frozenset[str]:
    """Returns the services that give way to those that a chat needs.

    Where processors are few, all that load libraries at once are late at once; one after another
    the first answers sooner, and the last hardly later.
    """
    if cores >= len(entries) or settings.services.inference.engine == _WITHOUT_MODELS:
        return frozenset()
    return frozenset(entry.name for entry in entries if entry.gives_way)


def edge_address(text: str) -> Address:
    """Returns the edge's address. Raises Failure when it is taken, or isn't one."""
    address = _parse(text, _key(EDGE.name))
    listener = _listen(address, _key(EDGE.name))
    if listener is not None:
        listener.close()
    elif address.port:
        raise _taken(EDGE.name, address, _SOMEBODY)
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


def _key(name: str) -> str:
    """Returns the setting that a program's address is."""
    return "api.address" if name == EDGE.name else f"services.{name}.address"


def _address(name: str, settings: Settings) -> str:
    if name == EDGE.name:
        return settings.api.address
    service: ServiceSettings = getattr(settings.services, name)
    return service.address


def _may_move(name: str, settings: Settings) -> bool:
    """Tells whether nobody asked for the address: then others don't count on it."""
    if name == EDGE.name:
        return False
    service: ServiceSettings = getattr(settings.services, name)
    standard: ServiceSettings = getattr(Settings().services, name)
    return service.address == standard.address and service.target == service.address


def _owner(address: Address, addresses: Mapping[str, Address]) -> str:
    """Says who has an address that is taken."""
    ours = (name for name, other in addresses.items() if other.port == address.port)
    return next(ours, _SOMEBODY)


def _listen(address: Address, key: str) -> socket | None:
    """Listens there. None where another one does, and for port 0, which is always free."""
    try:
        return listen(address) if address.port else None
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageFailure(
            f"Nothing can listen on {address}: {why}.",
            hint="The host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0, "
            "and ports below 1024 need rights.",
            field=key,
        ) from None


def _taken(name: str, address: Address, owner: str) -> Failure:
    if name == EDGE.name:
        other = next_free_port(address)
        hint = f"Stop it, or choose another port: penstock serve --port {other or 'N'}"
    elif owner == _SOMEBODY:
        hint = f"Stop it, or change [services.{name}] address; without one a free port is taken."
    else:
        hint = f"Change one of the two; without [services.{name}] address a free port is taken."
    return UsageFailure(
        f"{address}, where {name} shall listen, is taken by {owner}.", hint=hint, field=_key(name)
    )
