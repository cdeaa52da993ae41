"""The database of training."""

from services.sql import database


class Database(database.Database):
    """Opens transactions."""

    def __init__(self, url: str) -> None:
        """Makes the engine for a URL. Raises `ValueError` where it can't be used."""
        super().__init__(url, holds="training", file="training.db")
