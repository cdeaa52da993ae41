"""Runs migrations on the connection that `services.sql.migrations` was given."""

from alembic import context

from services.inference.response_stores.tables import METADATA, VERSION_TABLE

_connection = context.config.attributes["connection"]
context.configure(
    connection=_connection,
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
