"""Brings a database's schema up to date, at every start."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one service."""

    folder: Path
    """Alembic's: `env.py` and `versions`, whose files begin with their revisions, in order."""
    version_table: str
    lock: int
    """Any constant of the service: names the lock that starting processes take turns on."""
    schema: str
    """What it is called in the log, such as "the catalogue's schema"."""

    def upgrade(self, connection: Connection) -> None:
        """Applies every migration that is missing, within the connection's transaction.

        Raises:
            ValueError: the schema is of a later release.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock})
        before = self._revision(connection)
        head = self.head()
        if before == head:
            return
        # Most starts find all up to date: those don't wait until Alembic is imported.
        from alembic import command
        from alembic.script import ScriptDirectory

        # It tells of every step of its own; one line is enough.
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
        config = self._config(connection)
        steps = ScriptDirectory.from_config(config)
        if before is not None and before not in {step.revision for step in steps.walk_revisions()}:
            raise ValueError(
                f"its schema, {before}, is of a later release of Penstock than this one."
            )
        command.upgrade(config, "head")
        _log.info("%s went from %s to %s", self.schema, before or "nothing", head)

    def head(self) -> str:
        """Returns the last revision."""
        return max(path.name.partition("_")[0] for path in self.folder.glob("versions/[0-9]*.py"))

    def _revision(self, connection: Connection) -> str | None:
        """Returns the revision that the schema has; None where there is no schema yet."""
        if not inspect(connection).has_table(self.version_table):
            return None
        # The table's name is ours, and names can't be parameters.
        found = connection.execute(text(f"SELECT version_num FROM {self.version_table}"))
        return found.scalar_one_or_none()

    def _config(self, connection: Connection) -> "Config":
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        return config
