"""The store in SQLite or Postgres: its parts, put together."""

from services.retrieval.indexes.port import Index
from services.retrieval.stores.collections import Clock, SqlCollections
from services.retrieval.stores.database import Database
from services.retrieval.stores.documents import SqlDocuments
from services.retrieval.stores.prompts import SqlPrompts
from services.retrieval.stores.searches import SqlSearches
from services.sql.shield import Shield


class SqlStore:
    """Keeps what RetrievalService has; see `services.retrieval.store`."""

    def __init__(self, database: Database, index: Index, clock: Clock) -> None:
        self._database = database
        self._index = index
        self._shield = Shield()
        whole = self._shield.around
        collections = SqlCollections(database, index, clock)
        documents = SqlDocuments(database, index, collections, clock)
        prompts = SqlPrompts(database)
        self.create_collection = whole(collections.create_collection)
        self.collection = collections.collection
        self.collections = collections.collections
        self.change_collection = whole(collections.change_collection)
        self.delete_collection = whole(collections.delete_collection)
        self.touch_collection = whole(collections.touch_collection)
        self.expired = collections.expired
        self.fingerprints = documents.fingerprints
        self.put_documents = whole(documents.put_documents)
        self.update_documents = whole(documents.update_documents)
        self.document = documents.document
        self.documents = documents.documents
        self.delete_documents = whole(documents.delete_documents)
        self.search = SqlSearches(database, index, collections).search
        self.put_prompt = whole(prompts.put_prompt)
        self.prompt = prompts.prompt
        self.prompts = prompts.prompts
        self.delete_prompt = whole(prompts.delete_prompt)
        if not database.postgres:
            self.collection = whole(self.collection)
            self.collections = whole(self.collections)
            self.expired = whole(self.expired)
            self.fingerprints = whole(self.fingerprints)
            self.document = whole(self.document)
            self.documents = whole(self.documents)
            self.search = whole(self.search)
            self.prompt = whole(self.prompt)
            self.prompts = whole(self.prompts)

    async def close(self) -> None:
        """Lets go of the database."""
        await self._shield.finish()
        self._index.close()
        await self._database.close()
