"""Makes the secrets of compose.yaml: `python deploy/compose/make_secrets.py [FOLDER]`.

What is there stays as it is. The admin's key is printed once, and kept nowhere: its file holds the
SHA-256. Needs nothing but Python.
"""

import hashlib
import json
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Processes of other users read them, through the mount; the folder lets nobody else near.
_FOLDER_MODE, _FILE_MODE = 0o700, 0o644


def contents(admin_key: str) -> Mapping[str, str]:
    """Returns the files that belong together, by name."""
    database, redis = secrets.token_hex(24), secrets.token_hex(24)
    return {
        "service-token": secrets.token_urlsafe(32),
        "postgres-password": database,
        "database-url": f"postgresql+asyncpg://penstock:{database}@postgres:5432/penstock",
        "redis.conf": f'requirepass {redis}\nsave ""\nappendonly no\nmaxmemory 200mb\n'
        "maxmemory-policy noeviction\n",
        "redis-url": f"redis://:{redis}@redis:6379/0",
        "tokens.json": tokens(admin_key),
        "grafana-password": secrets.token_urlsafe(24),
    }


def tokens(admin_key: str) -> str:
    """Returns a token file with the key of one admin."""
    entry = {
        "id": f"key_{secrets.token_hex(6)}",
        "sha256": hashlib.sha256(admin_key.encode()).hexdigest(),
        "name": "admin",
        "roles": ["admin"],
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps({"tokens": [entry]}, indent=2) + "\n"


def main() -> int:
    """Writes them, unless some are there."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "secrets"
    admin_key = f"pnstk_{secrets.token_hex(20)}"
    files = contents(admin_key)
    there = [name for name in files if (folder / name).exists()]
    if there:
        print(f"{folder} holds {', '.join(there)} already: nothing was written.", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_FOLDER_MODE)  # also where it was there already
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(_FILE_MODE)
    print(f"Wrote {folder}. The admin's key, which is kept nowhere:\n{admin_key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
