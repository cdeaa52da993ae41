"""A process that reads documents, one after the other, within limits.

    python -m services.retrieval.parsing.worker MEMORY_BYTES

Tasks come in on stdin and answers go out on what was stdout. A hostile document can make it burn
its time, use up its memory or crash, and then it alone ends.
"""

import logging
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from services.errors import InvalidArgument
from services.retrieval.parsing.formats import DATA_FIELD, Format
from services.retrieval.parsing.messages import HEADER, Answer, Task, packed, task_of
from services.retrieval.parsing.plain_text import decoded, kept


def main() -> None:
    """Reads until stdin ends."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's: it closes stdin
    logging.disable()  # parsers remark on every flaw
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    for task in _tasks(sys.stdin.buffer):
        _limit_time(task.cpu_s)
        header, body = packed(_answer(task))
        answers.write(header)
        answers.write(body)
        answers.flush()


def _tasks(stream: BinaryIO) -> Iterator[Task]:
    while len(header := stream.read(HEADER.size)) == HEADER.size:
        (length,) = HEADER.unpack(header)
        yield task_of(stream.read(length))


def _limit_time(cpu_s: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_s, hard))


def _answer(task: Task) -> Answer:
    try:
        text, title = _read(task)
        text = kept(text)
        if len(text) > task.max_characters:
            raise InvalidArgument(
                "The document holds more text than a document may: split it.", field=DATA_FIELD
            )
        return Answer(text=text, title=kept(title))
    except MemoryError:
        return Answer(is_out_of_memory=True)
    except InvalidArgument as error:
        return Answer(refusal=error.message, field=error.field or "")


def _read(task: Task) -> tuple[str, str]:
    # Imported as they are needed: most processes read one format.
    match Format(task.format):
        case Format.PDF:
            from services.retrieval.parsing.pdf_text import text_of_pdf

            return text_of_pdf(task.data, task.max_characters)
        case Format.HTML:
            from services.retrieval.parsing.html_text import charset_of_html, text_of_html

            charset = task.charset or charset_of_html(task.data)
            return text_of_html(kept(_text(task, charset)))
        case Format.MARKDOWN:
            from services.retrieval.parsing.markdown_text import text_of_markdown

            return text_of_markdown(kept(_text(task, task.charset)))
        case Format.PLAIN:
            return _text(task, task.charset), ""


def _text(task: Task, charset: str) -> str:
    return decoded(task.data, charset) if task.text is None else task.text


if __name__ == "__main__":
    main()
