"""Where TrainingService keeps what it knows of files and jobs."""

from services.training.stores.open import Store, open_store

__all__ = ["Store", "open_store"]
