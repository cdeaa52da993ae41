"""Answers of the inference service, translated into items of a response. No I/O."""

import time
from collections.abc import Callable, Sequence

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import response_service_pb2 as service_pb2

from gateway.context import new_id
from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.answers import chat_logprobs, seconds
from gateway.dialects.openai.response_object import Draft, is_cut

NewId = Callable[[str], str]
"""Makes an ID that begins so."""


def response_object(
    answer: inference_pb2.ChatResponse,
    draft: Draft,
    before: Sequence[answers.OutputItem] = (),
    *,
    make_id: NewId = new_id,
    clock: Callable[[], float] = time.time,
) -> answers.Response:
    """Renders a whole answer, behind the items that came `before` it."""
    draft.created_at = seconds(answer.create_time)
    choice = answer.choices[0]
    status: answers.ItemStatus = "incomplete" if is_cut(choice.finish_reason) else "completed"
    calls = choice.message.tool_calls
    text = "".join(part.text for part in choice.message.parts)
    output: list[answers.OutputItem] = [*before]
    thought = choice.message.reasoning
    if thought:
        over: answers.ItemStatus = "completed" if text or calls else status
        content = [answers.ReasoningText(text=thought)]
        output.append(answers.ReasoningItem(id=make_id("rs_"), content=content, status=over))
    cut_while_thinking = bool(thought) and status == "incomplete"
    if text or not (calls or cut_while_thinking):
        said = answers.OutputText(text=text, logprobs=chat_logprobs(choice.logprobs))
        whole: answers.ItemStatus = "completed" if calls else status
        output.append(answers.OutputMessage(id=make_id("msg_"), status=whole, content=[said]))
    for number, call in enumerate(calls):
        last = number == len(calls) - 1
        output.append(
            answers.FunctionCallItem(
                id=make_id("fc_"),
                status=status if last else "completed",
                call_id=call.id,
                name=call.name,
                arguments=call.arguments_json,
            )
        )
    return draft.ended(choice.finish_reason, output, answer.usage, int(clock()))


def item_list(page: service_pb2.ListInputItemsResponse) -> answers.ResponseItemList:
    """Renders a page of items."""
    items = page.input_items
    return answers.ResponseItemList(
        data=[msgspec.Raw(item.item_json.encode()) for item in items],
        first_id=items[0].item_id if items else None,
        last_id=items[-1].item_id if items else None,
        has_more=bool(page.next_page_token),
    )
