"""`file_search` of responses: what the user said last is looked for before it is answered."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.types import Receive

from gateway.calls import ask_each_while_there
from gateway.context import RequestContext, new_id
from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai import vector_store_schema as stores
from gateway.dialects.openai.response_items import Entry
from gateway.dialects.openai.response_object import DEFAULT_RESULTS
from gateway.dialects.openai.response_schema import ResponseCreate, ResponseTool
from gateway.dialects.openai.response_translate import RESULTS, searches
from gateway.dialects.openai.vector_store_answers import search_results
from gateway.dialects.openai.vector_store_service import Retrieval
from gateway.dialects.openai.vector_store_translate import (
    spell_store,
    store_name,
    to_search_requests,
)
from gateway.errors import Problem, ProblemError

_HEAD = "Passages from the user's files, found by a search for what the user said:"
_SPACE = re.compile(r"\s+")
_LONGEST_QUERY = 10_000
"""Characters; models that embed texts read no more of one."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found before an answer."""

    items: Sequence[answers.FileSearchCall] = ()
    passages: str = ""
    """For the model to read."""


class FileSearches:
    """Looks into vector stores, for responses."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def make(
        self,
        body: ResponseCreate,
        entries: Sequence[Entry],
        context: RequestContext,
        receive: Receive,
    ) -> Searched:
        """Makes the searches that a request wants.

        Raises:
            ProblemError: one could not be made.
            ClientGoneError: the client left.
        """
        wanted = searches(body)
        if body.max_tool_calls is not None:
            wanted = wanted[: body.max_tool_calls]
        query = _query(entries) if wanted else ""
        if not query:
            return Searched()
        shows = RESULTS in (body.include or ())
        items: list[answers.FileSearchCall] = []
        passages: list[str] = []
        for place, tool in wanted:
            try:
                found = await self._search(tool, query, context, receive)
            except ProblemError as error:
                raise ProblemError(_spelled(error.problem, f"tools[{place}]")) from None
            items.append(
                answers.FileSearchCall(
                    id=new_id("fs_"),
                    status="completed",
                    queries=[query],
                    results=[_hit(result) for result in found] if shows else None,
                )
            )
            passages += (f"{result.filename}:\n{_text(result)}" for result in found)
        return Searched(items, "\n\n".join((_HEAD, *passages)) if passages else "")

    async def _search(
        self,
        tool: ResponseTool,
        query: str,
        context: RequestContext,
        receive: Receive,
    ) -> list[stores.SearchResult]:
        limit = tool.max_num_results or DEFAULT_RESULTS
        asked = stores.VectorStoreSearch(
            query=query,
            max_num_results=limit,
            filters=tool.filters,
            ranking_options=tool.ranking_options,
        )
        requests = [
            request
            for store_id in dict.fromkeys(tool.vector_store_ids or ())
            for request in to_search_requests(asked, store_name(context.principal, store_id))
        ]
        timeout_s = self._retrieval.settings.request_timeout_s
        method = self._retrieval.stub.Search
        found = await ask_each_while_there(method, requests, context, receive, timeout_s)
        return search_results(found, asked, limit).data


def _query(entries: Sequence[Entry]) -> str:
    """What the user said last, on one line."""
    for entry in reversed(entries):
        item = entry.item
        if item.role != "user":
            continue
        content = item.content
        if isinstance(content, list):
            content = " ".join(part.text for part in content if part.text)
        text = _SPACE.sub(" ", content or "").strip()
        if text:
            return text[:_LONGEST_QUERY]
    return ""


def _hit(result: stores.SearchResult) -> answers.FileSearchHit:
    return answers.FileSearchHit(
        result.file_id, result.filename, result.score, result.attributes, _text(result)
    )


def _text(result: stores.SearchResult) -> str:
    return "\n".join(part.text for part in result.content)


def _spelled(problem: Problem, path: str) -> Problem:
    """Spells a problem of a search, whose fields are the tool's."""
    told = spell_store(problem)
    if told.param is None or told.param.startswith(path):
        return told
    if told.param == "vector_store_id":
        return replace(told, param=f"{path}.vector_store_ids")
    if told.param == "query":
        return replace(told, param="input")
    return replace(told, param=f"{path}.{told.param}")
