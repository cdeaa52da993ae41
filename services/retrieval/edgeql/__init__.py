"""The subset of EdgeQL that chooses documents, read by a grammar.

`Type`, `select Type`, `(select Type filter .year > <int64>$year and .kind in {'a', 'b'} limit 10)`:
one type, a condition on its properties, a limit.
"""

from services.retrieval.edgeql.reader import Query, read_query

__all__ = ["Query", "read_query"]
