"""Takes the text out of documents, with processes that may fail."""

import asyncio
from typing import Self

from services.errors import InvalidArgument
from services.retrieval.parsing.child import Child, ChildDied, Ended
from services.retrieval.parsing.formats import DATA_FIELD, Extracted, Format, media_type
from services.retrieval.parsing.messages import Answer, Task
from services.retrieval.parsing.plain_text import decoded, kept

MAX_CHARACTERS = 32 * 1024 * 1024


class Extractor:
    """Takes the text out of documents.

    Markdown, HTML and PDF are read in processes of their own, which start when they are needed.
    """

    def __init__(
        self,
        *,
        processes: int = 2,
        cpu_s: int = 30,
        memory_bytes: int = 1024**3,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        """Takes the limits.

        A document may take `cpu_s` seconds of processor time and `memory_bytes` of address space,
        and its text may be `max_characters` long; `processes` read at a time.
        """
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._max_characters = max_characters
        self._slots = asyncio.Semaphore(processes)
        self._idle: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def extract(self, content: str | bytes, mime_type: str = "") -> Extracted:
        """Returns the text of a document, what it calls itself and what it is.

        Raises InvalidArgument when it can't be read. Cancelling stops the reading.
        """
        kind = media_type(mime_type, content)
        if kind.format is Format.PLAIN:
            text = content if isinstance(content, str) else decoded(content, kind.charset)
            return Extracted(self._checked(kept(text)), "", kind.name)
        text, data = (content, b"") if isinstance(content, str) else (None, content)
        task = Task(kind.format.value, kind.charset, text, data, self._max_characters, self._cpu_s)
        async with self._slots:
            answer = await self._ask(task)
        if answer.refusal:
            raise InvalidArgument(answer.refusal, field=answer.field or DATA_FIELD)
        return Extracted(answer.text, answer.title, kind.name)

    async def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            await self._idle.pop().close()

    def _checked(self, text: str) -> str:
        if len(text) > self._max_characters:
            raise InvalidArgument(
                "The document holds more text than a document may: split it.", field=DATA_FIELD
            )
        return text

    async def _ask(self, task: Task) -> Answer:
        if self._idle:
            # It has read others, so that its memory may be used up by those: a failure counts only
            # in a fresh one.
            answer = await self._ask_child(self._idle.pop(), task)
            if isinstance(answer, Answer) or answer is Ended.OUT_OF_TIME:
                return _told(answer)
        return _told(await self._ask_child(await Child.start(self._memory_bytes), task))

    async def _ask_child(self, child: Child, task: Task) -> Answer | Ended:
        try:
            answer = await child.ask(task)
        except ChildDied as death:
            return death.reason
        except BaseException:
            await child.close()
            raise
        if answer.is_out_of_memory:
            await child.close()
            return Ended.OUT_OF_MEMORY
        self._idle.append(child)
        return answer


def _told(answer: Answer | Ended) -> Answer:
    match answer:
        case Answer():
            return answer
        case Ended.OUT_OF_TIME:
            return Answer(refusal="The document takes too long to read: split or simplify it.")
        case Ended.OUT_OF_MEMORY:
            return Answer(refusal="The document takes too much memory to read: split it.")
        case Ended.CRASHED:
            return Answer(refusal="The document can't be read: save it anew, or send its text.")
