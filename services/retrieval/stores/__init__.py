"""Where collections, documents and prompts are kept."""

from services.retrieval.stores.open import StoreSettings, open_store

__all__ = ["StoreSettings", "open_store"]
