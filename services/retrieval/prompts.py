"""Stored prompts: put in, got, listed, deleted, and filled in."""

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.page_tokens import Place
from services.retrieval import paging
from services.retrieval.clock import utc_now
from services.retrieval.names import BUILTIN, PromptRef, check_prompt_id, is_uid, new_etag, new_uid
from services.retrieval.paging import Asked, Listing
from services.retrieval.records import Json, Page, Prompt
from services.retrieval.store import Store
from services.retrieval.templates import parse
from services.retrieval.values import check_json

DEFAULT_PAGE_SIZE = 100
MOST_BYTES = 4 * 1024 * 1024
"""Most bytes of a stored prompt."""
RAG_DEFAULT = BUILTIN + "rag-default"
"""The prompt of answers that name none."""

_SYSTEM = "ROLE_SYSTEM"
_USER = "ROLE_USER"
_RAG_DEFAULT_SYSTEM = """\
You are an expert question answerer. Answer only from the context below, never from prior \
knowledge. Do not mention the context in the answer. Never write 'based on the context' or \
anything like it. If the context does not hold the answer, say exactly: No information available.

Context:
{context}

Now answer the question."""
_RAG_DEFAULT_USER = "Query: {query}\nAnswer: "

_SAFE_TEXT = (
    "Always help with care, respect and truth. Give useful answers and keep them secure. Avoid "
    "harmful, unethical, prejudiced or hateful content. Be fair and positive."
)

Message = Mapping[str, Json]
"""A `penstock.inference.v1.Message` in the JSON form of its proto."""


def _message(role: str, text: str) -> Message:
    return {"role": role, "parts": [{"text": text}]}


SAFE_MESSAGE = _message(_SYSTEM, _SAFE_TEXT)
"""Goes in front of prompts that are asked to be safe."""

_BUILTINS = {
    RAG_DEFAULT: (
        _message(_SYSTEM, _RAG_DEFAULT_SYSTEM),
        _message(_USER, _RAG_DEFAULT_USER),
    )
}


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """A prompt to put in."""

    ref: PromptRef
    messages: tuple[Message, ...]
    etag: str = ""
    """Only this state is replaced; empty replaces any."""


class Prompts:
    """Answers for prompts."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock

    async def put(self, asked: NewPrompt) -> Prompt:
        """Puts a prompt in, or replaces it.

        Raises:
            Conflict: the etag differs.
            InvalidArgument: a text can't be filled in, or the ID is kept for others.
            FailedPrecondition: it comes with Penstock.
        """
        if _builtin(asked.ref) is not None:
            raise _unchangeable(asked.ref)
        id = check_prompt_id(asked.ref.key, "prompt.name")
        if is_uid(id):
            id = await self._id_of(asked.ref)
        _check(asked.messages)
        now = self._clock()
        prompt = Prompt(
            tenant=asked.ref.tenant,
            id=id,
            uid=new_uid(),
            messages=asked.messages,
            create_time=now,
            update_time=now,
            etag=new_etag(),
        )
        return await self._store.put_prompt(prompt, asked.etag)

    async def _id_of(self, ref: PromptRef) -> str:
        try:
            return (await self._store.prompt(ref.tenant, ref.key)).id
        except NotFound:
            raise InvalidArgument(
                f"{ref.key!r} looks like a uid, and no prompt has it. Choose another ID.",
                field="prompt.name",
            ) from None

    async def get(self, ref: PromptRef) -> Prompt:
        """Returns a prompt, by ID or uid. Raises `NotFound`."""
        return _builtin(ref) or await self._store.prompt(ref.tenant, ref.key)

    async def list(self, tenant: str, asked: Asked) -> Listing[Prompt]:
        """Returns a tenant's prompts, by ID."""
        query = ["prompts", tenant]
        page = paging.begin(asked, query, DEFAULT_PAGE_SIZE)
        found = list(await self._store.prompts(tenant, Page(page.size, page.after)))
        found += [_made(tenant, id) for id in _BUILTINS if id > page.after]
        found = sorted(found, key=lambda prompt: prompt.id)[: page.size]
        places = [Place(prompt.id) for prompt in found]
        listing = paging.end(found, places, page, asked, query)
        sizes = [len(msgspec.json.encode(prompt.messages)) for prompt in listing.items]
        return paging.cut(listing, sizes, places, asked, query)

    async def delete(self, ref: PromptRef) -> None:
        """Deletes a prompt, by ID or uid.

        Raises:
            NotFound: there is none.
            FailedPrecondition: it comes with Penstock.
        """
        if _builtin(ref) is not None:
            raise _unchangeable(ref)
        await self._store.delete_prompt(ref.tenant, ref.key)


def fill(messages: Sequence[Message], *, context: str, query: str) -> list[Message]:
    """Fills a prompt in: user messages take context and query, system messages the context; others
    stay as they are."""
    values = {"context": context, "query": query}
    return [_with_texts(message, lambda text, _: parse(text).fill(values)) for message in messages]


def _check(messages: Sequence[Message]) -> None:
    size = 0
    for place, message in enumerate(messages):
        field = f"prompt.messages[{place}]"
        size += check_json(message, field)
        if size > MOST_BYTES:
            raise InvalidArgument(
                f"'prompt.messages': have at most {MOST_BYTES} bytes together.",
                field="prompt.messages",
            )
        names = {"context"} if message["role"] == _SYSTEM else {"context", "query"}

        def checked(text: str, part: int, names: set[str] = names, field: str = field) -> str:
            parse(text, names=names, field=f"{field}.parts[{part}].text")
            return text

        _with_texts(message, checked)


def _with_texts(message: Message, change: Callable[[str, int], str]) -> Message:
    """Returns a message with its texts changed, if it is one that is filled in."""
    if message["role"] not in (_SYSTEM, _USER):
        return message
    parts = cast("Sequence[Mapping[str, Any]]", message.get("parts", ()))
    changed = [
        {**part, "text": change(part["text"], place)} if "text" in part else part
        for place, part in enumerate(parts)
    ]
    return {**message, "parts": changed}


def _builtin(ref: PromptRef) -> Prompt | None:
    for id in _BUILTINS:
        prompt = _made(ref.tenant, id)
        if ref.key in (id, prompt.uid):
            return prompt
    return None


def _made(tenant: str, id: str) -> Prompt:
    messages = _BUILTINS[id]
    then = datetime(1970, 1, 1, tzinfo=UTC)
    return Prompt(
        tenant=tenant,
        id=id,
        uid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"penstock.dev/prompts/{id}")),
        messages=messages,
        create_time=then,
        update_time=then,
        etag=hashlib.sha256(msgspec.json.encode(messages)).hexdigest()[:16],
        builtin=True,
    )


def _unchangeable(ref: PromptRef) -> FailedPrecondition:
    return FailedPrecondition(
        f"{ref.key!r} comes with Penstock and stays as it is. Put your own in under another name."
    )
