"""Where TrainingService keeps what it knows of files."""

from services.training.stores.open import open_store

__all__ = ["open_store"]
