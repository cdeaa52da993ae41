"""`penstock ask`: a question, answered from documents, with the passages it is based on."""

import asyncio
from collections.abc import Iterable

import click
from grpc import aio
from penstock.retrieval.v1 import answer_pb2, retrieval_service_pb2, search_pb2
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from rich.text import Text

from services.cli.catalog import list_models, pick_chat_model
from services.cli.conversation import Answer
from services.cli.docs import collection_options
from services.cli.documents import document_id, tenant_name
from services.cli.failures import Failure, UsageFailure, explain
from services.cli.output import printable, to_dict
from services.cli.session import Session, client_command
from services.cli.transcript import Terminal

FIRST_LINE_WIDTH = 100
_NOTHING_THERE = {"NOT_FOUND", "FAILED_PRECONDITION"}


@click.command()
@click.argument("question")
@collection_options
@click.option(
    "--model", "-m", help="ID or alias of a chat model. Default: the first that is ready."
)
@click.option(
    "--count",
    "-k",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Most documents that the answer is based on.",
)
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, help="Seconds to wait.")
@client_command
def ask(
    session: Session,
    question: str,
    collection: str,
    tenant: str,
    model: str | None,
    count: int,
    timeout: float,
) -> None:
    """Ask a question of the documents in a collection, and show what the answer is based on.

    With --json every event of the stream is one line of JSON.
    """
    if not question.strip():
        raise UsageFailure("There is no question: the text is empty.")
    asyncio.run(_ask(session, question, collection, tenant, model, count, timeout))


async def _ask(
    session: Session,
    question: str,
    collection: str,
    tenant: str,
    model: str | None,
    count: int,
    timeout_s: float,
) -> None:
    if not model:
        async with session.models() as stub:
            model = pick_chat_model(await list_models(stub))
    request = retrieval_service_pb2.AnswerRequest(
        parent=tenant_name(tenant),
        model=model,
        query=question,
        context=answer_pb2.AnswerContext(collection_id=collection, max_object_count=count),
    )
    async with session.channel(session.retrieval) as channel:
        stub = RetrievalServiceStub(channel)
        try:
            await _show(session, stub, request, timeout_s)
        except aio.AioRpcError as error:
            failure = explain(error, session.retrieval, session.target.key_hint)
            if not failure.hint:
                failure.hint = _hint(failure.reason, collection)
            raise failure from error


def _hint(reason: str, collection: str) -> str:
    if reason in _NOTHING_THERE:
        return (
            f"`penstock docs load PATH --collection {collection}` loads documents; "
            "`penstock collections list` shows what there is."
        )
    if reason == "CONTEXT_LENGTH_EXCEEDED":
        return "A smaller --count puts less text into the prompt."
    return ""


async def _show(
    session: Session,
    stub: RetrievalServiceStub,
    request: retrieval_service_pb2.AnswerRequest,
    timeout_s: float,
) -> None:
    """Streams the answer into the terminal, or as JSON lines, and then lists its sources."""
    output = session.output
    terminal = None if output.as_json else Terminal(output)
    answer, hits = Answer(), list[search_pb2.Hit]()
    call = stub.Answer(request, timeout=timeout_s)
    if terminal:
        terminal.begin()
    try:
        async for event in call:
            hits.extend(event.retrieved.hits)
            answer.add(event.chat)
            if output.as_json:
                output.data(to_dict(event))
            elif terminal and event.WhichOneof("event") == "chat":
                terminal.event(event.chat)
    finally:
        call.cancel()
        if terminal:
            terminal.end(answer)
    if answer.usage is None:
        raise Failure("The answer was cut short: the stream ended before its last event.")
    for line in source_lines(hits):
        output.say(line)


def source_lines(hits: Iterable[search_pb2.Hit]) -> list[Text]:
    """Returns what is shown of the passages: title, document, score and first line of each."""
    lines: list[Text] = []
    for number, hit in enumerate(hits, 1):
        id_ = printable(document_id(hit.document))
        title = printable(hit.title).strip()
        named = (
            [(title, "bold"), (f"  {id_}", "dim")] if title and title != id_ else [(id_, "bold")]
        )
        lines.append(Text.assemble(f"{number:>3}. ", *named, (f"  {hit.score:.2f}", "dim")))
        if first := first_line(hit.text):
            lines.append(Text(f"     {first}", style="dim"))
    return [Text(""), Text("Sources", style="bold"), *lines] if lines else []


def first_line(text: str) -> str:
    """Returns the first line of a passage that says something, cut to the width of a terminal."""
    line = next((line.strip() for line in printable(text).splitlines() if line.strip()), "")
    return line if len(line) <= FIRST_LINE_WIDTH else line[: FIRST_LINE_WIDTH - 1] + "…"
