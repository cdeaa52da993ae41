"""Renders a response as it is generated: typed events, numbered from 0 without a gap.

Items follow one another: one is done before the next is added.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from penstock.inference.v1 import event_pb2, usage_pb2

from gateway.context import new_id
from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.answer_schema import TokenLogprob
from gateway.dialects.openai.answers import chat_logprobs, seconds
from gateway.dialects.openai.envelope import error_body
from gateway.dialects.openai.fields import Spelling
from gateway.dialects.openai.response_answers import NewId
from gateway.dialects.openai.response_object import Draft, is_cut
from gateway.dialects.openai.response_stream_items import OpenCall, OpenMessage, OpenReasoning
from gateway.errors import Problem
from gateway.sse import line_safe
from gateway.steps import Update

Written = TypeVar("Written", OpenReasoning, OpenMessage)


class ResponseStream:
    """One stream: state, no I/O. A response that is `kept` has its last event made by `completed`
    or `failed`, once it is known whether it could be kept."""

    def __init__(
        self,
        draft: Draft,
        before: Sequence[answers.FileSearchCall] = (),
        *,
        scored: bool = False,
        kept: bool = False,
        spelling: Spelling | None = None,
        make_id: NewId = new_id,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.finished = False
        self.response: answers.Response | None = None
        """The response, once it has ended."""
        self._draft = draft
        self._before = before
        self._scored = scored
        self._kept = kept
        self._spelling = spelling
        self._make_id = make_id
        self._clock = clock
        self._number = 0
        self._output: list[answers.OutputItem] = []
        self._open: OpenReasoning | OpenMessage | OpenCall | None = None
        self._reason = event_pb2.FINISH_REASON_STOP

    def text(self, text: str) -> bytes | None:
        """Makes the frame of text added to a message; None where it takes more than that."""
        message = self._open
        if not isinstance(message, OpenMessage) or not text:
            return None
        message.text.append(text)
        return self._delta(message, text)

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the frames of any other update."""
        if update.WhichOneof("update") == "text":
            return self._say(event_pb2.Delta(text=update.text))
        event = update.chat
        kind = event.WhichOneof("event")
        if kind == "delta":
            return self._say(event.delta)
        if kind == "reasoning_delta":
            return self._think(event.reasoning_delta)
        if kind == "tool_delta":
            return self._call(event.tool_delta)
        if kind == "finished":
            self._reason = event.finished.reason
            return self._end()
        if kind == "started":
            return self._start(event.started)
        if kind == "done":
            return self._done(event.done.usage)
        return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure."""
        self.finished = True
        told = problem if self._spelling is None else self._spelling(problem)
        error = error_body(told)["error"]
        # OpenAI documents the flat form; its SDKs raise what they find under `error`.
        return self._frame(
            "error",
            code=error["code"],
            message=error["message"],
            param=error["param"],
            error=error,
        )

    def completed(self) -> bytes:
        """Makes the last frame, of a response that has ended."""
        assert self.response is not None
        return self._frame(f"response.{self.response.status}", response=self.response)

    def failed(self, problem: Problem) -> bytes:
        """Makes the last frame, of a response that could not be kept."""
        failure = answers.ResponseFailure("server_error", problem.message)
        response = self._draft.rendered("failed", self._output, failure=failure)
        return self._frame("response.failed", response=response)

    def _start(self, started: event_pb2.Started) -> Sequence[bytes]:
        self._draft.created_at = seconds(started.create_time)
        begun = self._draft.rendered("in_progress")
        frames = [
            self._frame("response.created", response=begun),
            self._frame("response.in_progress", response=begun),
        ]
        for search in self._before:
            frames += self._search(search)
        return frames

    def _search(self, search: answers.FileSearchCall) -> Sequence[bytes]:
        """Tells of a search, which was made before anything was said."""
        index = len(self._output)
        begun = msgspec.structs.replace(search, status="in_progress", results=None)
        self._output.append(search)
        steps = ("in_progress", "searching", "completed")
        return [
            self._frame("response.output_item.added", output_index=index, item=begun),
            *(
                self._frame(
                    f"response.file_search_call.{step}", output_index=index, item_id=search.id
                )
                for step in steps
            ),
            self._frame("response.output_item.done", output_index=index, item=search),
        ]

    def _say(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        if not delta.text and not (self._scored and delta.logprobs):
            return ()
        frames: list[bytes] = []
        message = self._open
        if not isinstance(message, OpenMessage):
            message = self._begin(OpenMessage(self._make_id("msg_")), frames)
        logprobs = chat_logprobs(delta.logprobs) if self._scored else []
        message.text.append(delta.text)
        message.logprobs += logprobs
        frames.append(self._delta(message, delta.text, logprobs))
        return frames

    def _think(self, delta: event_pb2.ReasoningDelta) -> Sequence[bytes]:
        if not delta.text:
            return ()
        frames: list[bytes] = []
        thought = self._open
        if not isinstance(thought, OpenReasoning):
            thought = self._begin(OpenReasoning(self._make_id("rs_")), frames)
        thought.text.append(delta.text)
        frames.append(self._of_text("response.reasoning_text.delta", thought, delta=delta.text))
        return frames

    def _begin(self, item: Written, frames: list[bytes]) -> Written:
        frames += self._close("completed")
        self._open = item
        frames += (
            self._of_item("response.output_item.added", item=item.item("in_progress")),
            self._of_text("response.content_part.added", item, part=item.part()),
        )
        return item

    def _delta(
        self, message: OpenMessage, text: str, logprobs: Sequence[TokenLogprob] = ()
    ) -> bytes:
        return self._of_text("response.output_text.delta", message, delta=text, logprobs=logprobs)

    def _call(self, delta: event_pb2.ToolDelta) -> Sequence[bytes]:
        frames: list[bytes] = []
        call = self._open
        if not isinstance(call, OpenCall) or call.index != delta.call_index:
            frames += self._close("completed")
            call = self._open = OpenCall(
                self._make_id("fc_"), delta.call_index, delta.id, delta.name
            )
            frames.append(
                self._of_item("response.output_item.added", item=call.item("in_progress"))
            )
        if delta.arguments_json:
            call.arguments.append(delta.arguments_json)
            frames.append(
                self._of_item(
                    "response.function_call_arguments.delta",
                    item_id=call.id,
                    delta=delta.arguments_json,
                )
            )
        return frames

    def _end(self) -> Sequence[bytes]:
        """Ends the last item. An answer without any has a message that says nothing, and so has one
        that ends behind a thought, unless it was cut in it."""
        frames: list[bytes] = []
        cut = is_cut(self._reason)
        silent = self._open is None and len(self._output) == len(self._before)
        if silent or (isinstance(self._open, OpenReasoning) and not cut):
            self._begin(OpenMessage(self._make_id("msg_")), frames)
        return [*frames, *self._close("incomplete" if cut else "completed")]

    def _close(self, status: answers.ItemStatus) -> Sequence[bytes]:
        opened = self._open
        if opened is None:
            return ()
        item = opened.item(status)
        frames: list[bytes] = []
        if isinstance(opened, OpenReasoning | OpenMessage):
            part = opened.part()
            scores = {"logprobs": part.logprobs} if isinstance(part, answers.OutputText) else {}
            frames += (
                self._of_text(f"response.{opened.kind}.done", opened, text=part.text, **scores),
                self._of_text("response.content_part.done", opened, part=part),
            )
        else:
            frames.append(
                self._of_item(
                    "response.function_call_arguments.done",
                    item_id=opened.id,
                    name=opened.name,
                    arguments="".join(opened.arguments),
                )
            )
        frames.append(self._of_item("response.output_item.done", item=item))
        self._output.append(item)
        self._open = None
        return frames

    def _done(self, usage: usage_pb2.Usage) -> Sequence[bytes]:
        self.finished = True
        now = int(self._clock())
        self.response = self._draft.ended(self._reason, self._output, usage, now)
        return () if self._kept else (self.completed(),)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        return self._frame(kind, output_index=len(self._output), **fields)

    def _of_text(self, kind: str, item: OpenReasoning | OpenMessage, **fields: Any) -> bytes:
        index = len(self._output)
        return self._frame(kind, output_index=index, item_id=item.id, content_index=0, **fields)

    def _frame(self, kind: str, **fields: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        data = line_safe(msgspec.json.encode(event))
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
