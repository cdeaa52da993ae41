"""The settings that a container of the deployment would read."""

from collections.abc import Mapping
from pathlib import Path

from gateway.settings import Settings as EdgeSettings
from gateway.settings import load as load_edge
from services.settings import Settings, load

SECRETS = {
    "service-token": "s3rvice",
    "database-url": "postgresql+asyncpg://penstock:pw@db/penstock",
    "redis-url": "redis://redis:6379/0",
    "tokens.json": '{"tokens": []}',
}


def read(variables: Mapping[str, str], toml: str, folder: Path) -> tuple[Settings, EdgeSettings]:
    """Reads them as a service and as the edge do; unknown keys and variables are errors.

    Mounts are made in a folder: what begins with /etc/penstock or /run/secrets lies in it.
    """
    config = folder / "penstock.toml"
    config.write_text(toml)
    for name, text in SECRETS.items():
        (folder / name).write_text(text)
    env: dict[str, str] = {}
    for name, value in variables.items():
        path = Path(value)
        mounted = value.startswith(("/etc/penstock/", "/run/secrets/"))
        if mounted and path.name in (*SECRETS, config.name):
            env[name] = str(folder / path.name)
        else:
            env[name] = value
    return load(None, env), load_edge(environ=env)
