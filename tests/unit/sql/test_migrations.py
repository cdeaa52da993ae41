"""Schemas are brought up to date at every start; where they are already, that takes no Alembic."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from services.inference.response_stores import database as responses
from services.model.stores import sql as catalogue
from services.retrieval.stores import open as documents
from services.sql.migrations import Migrations
from services.training.stores import open as jobs

EVERY = {module.__name__: module._MIGRATIONS for module in (responses, catalogue, documents, jobs)}
AGAIN = """
import sys
from services.inference.response_stores.database import _MIGRATIONS
from sqlalchemy import create_engine
with create_engine(sys.argv[1]).begin() as connection:
    _MIGRATIONS.upgrade(connection)
print("alembic" in sys.modules)
"""


@pytest.fixture(params=EVERY)
def migrations(request: pytest.FixtureRequest) -> Migrations:
    return EVERY[request.param]


def test_the_head_is_that_of_alembic(migrations: Migrations) -> None:
    steps = ScriptDirectory(str(migrations.folder))
    assert migrations.head() == steps.get_current_head()
    assert len(list(steps.walk_revisions())) == int(migrations.head())


def test_a_schema_is_made_once(migrations: Migrations, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "services.sql.migrations")
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        for _ in range(2):
            migrations.upgrade(connection)
            found = connection.execute(text(f"SELECT version_num FROM {migrations.version_table}"))
            assert found.scalars().all() == [migrations.head()]
    engine.dispose()
    assert len(caplog.messages) == 1, "the second time nothing is done"


def test_one_of_a_later_release_is_refused(migrations: Migrations) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrations.upgrade(connection)
        connection.execute(text(f"UPDATE {migrations.version_table} SET version_num = '9999'"))
        with pytest.raises(ValueError, match="9999, is of a later release"):
            migrations.upgrade(connection)
    engine.dispose()


def test_later_starts_take_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'responses.db'}"
    for imported in ("True", "False"):
        words = [sys.executable, "-c", AGAIN, url]
        ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
        assert ran.stdout.strip() == imported
