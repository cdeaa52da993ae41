"""Reads settings into frozen dataclasses: one loader, driven by their types.

A dataclass is a table, its fields are keys, and their types say what values are allowed. The name
of a field's environment variable follows from its place: `[services.inference] engine` is
`PENSTOCK_SERVICES_INFERENCE_ENGINE`.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_origin, get_type_hints

from services.settings_values import SettingsError, convert, parse

PREFIX = "PENSTOCK_"
CONFIG_VARIABLE = "PENSTOCK_CONFIG"
"""Names the file."""
DEFAULT_FILE = Path("penstock.toml")

# Read before any setting, and by the command line as the key that it calls with.
_NO_SETTINGS = frozenset({CONFIG_VARIABLE, "PENSTOCK_API_KEY"})

T = TypeVar("T")


def key(
    default: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    secret: bool = False,
    env: str | None = None,
    env_only: bool = False,
) -> Any:
    """Declares a field: its range, whether it is a secret, and the variable that sets it in place
    of the usual one.

    An `env_only` field can't be set in the file.
    """
    metadata = {"minimum": minimum, "maximum": maximum, "env": env, "env_only": env_only}
    return field(default=default, repr=not secret, metadata=metadata)


class Leaf(NamedTuple):
    """A key that holds a value."""

    path: tuple[str, ...]
    """Sections and key."""
    type: Any
    """Its type, resolved."""
    field: Field[Any]
    """The field of the dataclass."""

    @property
    def dotted(self) -> str:
        """The key as overrides name it."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.field.metadata.get("env") or PREFIX + "_".join(self.path).upper()

    @property
    def secret(self) -> bool:
        """Whether its value is not for everybody's eyes. A file can hold it: `$VARIABLE_FILE`."""
        return not self.field.repr

    @property
    def shown(self) -> str:
        """The key as the file shows it."""
        return f"[{'.'.join(self.path[:-1])}] {self.path[-1]}"


_hints = cache(get_type_hints)


def leaves(cls: type[Any], path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Lists the keys of a dataclass and of those within it."""
    hints = _hints(cls)
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            yield from leaves(cast("type[Any]", hint), (*path, item.name))
        else:
            yield Leaf((*path, item.name), hint, item)


def process_environment(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """Returns the environment that is given, else the process's own."""
    return os.environ if env is None else env


def build(
    cls: type[T],
    path: Path | None,
    env: Mapping[str, str] | None,
    overrides: Mapping[str, object] | None,
) -> T:
    """Builds `cls` from a file, the environment and overrides; later ones win. Raises
    `SettingsError`."""
    env = os.environ if env is None else env
    known = {leaf.path: leaf for leaf in leaves(cls)}
    values: dict[tuple[str, ...], object] = {}
    file = _file(path, env)
    if file is not None:
        values |= _from_file(cls, file, known)
    values |= _from_environment(env, known)
    by_name = {leaf.dotted: leaf for leaf in known.values()}
    for name, value in (overrides or {}).items():
        leaf = by_name.get(name)
        if leaf is None:
            raise SettingsError(f"there is no setting '{name}'{_nearest(name, by_name)}")
        values[leaf.path] = _value(leaf, value, leaf.dotted, Path(), text=isinstance(value, str))
    return _assemble(cls, values)


def _file(path: Path | None, env: Mapping[str, str]) -> Path | None:
    if path is None and env.get(CONFIG_VARIABLE):
        path = Path(env[CONFIG_VARIABLE])
    if path is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    return path


def _from_file(
    cls: type[Any], file: Path, known: Mapping[tuple[str, ...], Leaf]
) -> dict[tuple[str, ...], object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}") from None
    values: dict[tuple[str, ...], object] = {}
    _walk(document, (), file, known, values)
    return values


def _walk(
    table: Mapping[str, object],
    path: tuple[str, ...],
    file: Path,
    known: Mapping[tuple[str, ...], Leaf],
    values: dict[tuple[str, ...], object],
) -> None:
    """Reads a table of the file into `values`."""
    for name, value in table.items():
        here = (*path, name)
        leaf = known.get(here)
        if leaf is not None and not leaf.field.metadata.get("env_only"):
            values[here] = _value(leaf, value, f"{file}: {leaf.shown}", file.parent, text=False)
            continue
        inside = [other[: len(here)] for other in known if len(other) > len(here)]
        if here in inside:
            if not isinstance(value, dict):
                raise SettingsError(f"{file}: [{'.'.join(here)}] is a table, not a value")
            _walk(cast("dict[str, object]", value), here, file, known, values)
            continue
        if leaf is not None:
            raise SettingsError(f"{file}: {leaf.shown} can only be set as ${leaf.variable}")
        siblings = {
            other[len(path)]
            for other, sibling in known.items()
            if other[: len(path)] == path and not sibling.field.metadata.get("env_only")
        }
        what = (
            f"unknown key '{name}' in [{'.'.join(path)}]" if path else f"unknown section [{name}]"
        )
        raise SettingsError(f"{file}: {what}{_nearest(name, siblings)}")


def _from_environment(
    env: Mapping[str, str], known: Mapping[tuple[str, ...], Leaf]
) -> dict[tuple[str, ...], object]:
    by_variable = {leaf.variable: leaf for leaf in known.values()}
    of_files = {f"{name}_FILE": leaf for name, leaf in by_variable.items() if leaf.secret}
    values: dict[tuple[str, ...], object] = {}
    for variable, text in env.items():
        leaf = by_variable.get(variable)
        if leaf is not None:
            values[leaf.path] = _value(leaf, text, f"${variable}", Path(), text=True)
        elif variable in of_files:
            leaf = of_files[variable]
            if leaf.variable in env:
                raise SettingsError(f"${leaf.variable} and ${variable} are both set: set one")
            secret = _secret(Path(text), variable)
            values[leaf.path] = _value(leaf, secret, f"${variable}", Path(), text=True)
        elif (
            variable.startswith(PREFIX)
            and variable not in _NO_SETTINGS
            and not _from_kubernetes(variable, env)
        ):
            raise SettingsError(
                f"unknown environment variable ${variable}{_nearest(variable, by_variable)}"
            )
    return values


def _secret(file: Path, variable: str) -> str:
    """Reads a secret from the file that a variable names."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"${variable}: {file} can't be read: {error}") from None


def _from_kubernetes(variable: str, env: Mapping[str, str]) -> bool:
    """Tells whether Kubernetes made a variable, as it does for each Service: PENSTOCK_MODEL_PORT
    and the like."""
    prefix, found, _ = variable.partition("_SERVICE_")
    if not found:
        prefix, found, _ = variable.partition("_PORT")
    return bool(found) and f"{prefix}_SERVICE_HOST" in env and f"{prefix}_SERVICE_PORT" in env


def _value(leaf: Leaf, raw: object, where: str, base: Path, *, text: bool) -> object:
    """Gives a key's value its type and checks its range. `base` is what relative paths are relative
    to."""
    if get_origin(leaf.type) is Mapping:
        _, item = cast("tuple[Any, Any]", leaf.type.__args__)
        return _entries(item, raw, where, base, text=text)
    value = parse(leaf.type, cast("str", raw), where) if text else convert(leaf.type, raw, where)
    _check_range(leaf.field, value, where)
    # An empty path stays empty: it stands for the default.
    if isinstance(value, Path) and value != Path():
        return base / value.expanduser()
    return value


def _entries(
    cls: type[Any], raw: object, where: str, base: Path, *, text: bool
) -> dict[str, object]:
    """Reads a table of tables with free names."""
    if text:
        raw = parse(dict, cast("str", raw), where)
    if not isinstance(raw, dict):
        raise SettingsError(f"{where}: expected a table, got {raw!r}")
    known = {leaf.path[0]: leaf for leaf in leaves(cls)}
    entries: dict[str, object] = {}
    for name, table in cast("dict[str, object]", raw).items():
        there = f"{where}.{name}"
        if not isinstance(table, dict):
            raise SettingsError(f"{there}: expected a table, got {table!r}")
        values: dict[tuple[str, ...], object] = {}
        for item, value in cast("dict[str, object]", table).items():
            leaf = known.get(item)
            if leaf is None:
                raise SettingsError(f"{there}: unknown key '{item}'{_nearest(item, known)}")
            values[item,] = _value(leaf, value, f"{there}: {item}", base, text=False)
        for item, leaf in known.items():
            required = leaf.field.default is MISSING and leaf.field.default_factory is MISSING
            if required and (item,) not in values:
                raise SettingsError(f"{there}: '{item}' is missing")
        entries[name] = cls(**{path[0]: value for path, value in values.items()})
    return entries


def _check_range(item: Field[Any], value: object, where: str) -> None:
    if not isinstance(value, (int, float)):
        return
    minimum, maximum = item.metadata.get("minimum"), item.metadata.get("maximum")
    if minimum is not None and value < minimum:
        raise SettingsError(f"{where}: must be at least {minimum:g}, got {value:g}")
    if maximum is not None and value > maximum:
        raise SettingsError(f"{where}: must be at most {maximum:g}, got {value:g}")


def _assemble(cls: type[T], values: Mapping[tuple[str, ...], object]) -> T:
    """Makes the dataclass, taking defaults for what has no value."""
    return _over(cls(), values, ())


def _over(instance: T, values: Mapping[tuple[str, ...], object], path: tuple[str, ...]) -> T:
    changes: dict[str, Any] = {}
    for item in fields(cast("Any", instance)):
        here = (*path, item.name)
        if here in values:
            changes[item.name] = values[here]
        elif is_dataclass(inner := getattr(instance, item.name)):
            changes[item.name] = _over(inner, values, here)
    return replace(cast("Any", instance), **changes)


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean '{near[0]}'?" if near else ""
