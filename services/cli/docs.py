"""`penstock docs`: documents that questions are answered from."""

import asyncio
from pathlib import Path

import click
from penstock.retrieval.v1 import document_pb2, retrieval_service_pb2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from services.cli.document_files import find_files
from services.cli.document_upload import Summary, Upload
from services.cli.documents import (
    UNARY_TIMEOUT_S,
    collection_name,
    document_facts,
    document_name,
    document_row,
    ensure_collection,
    list_documents,
)
from services.cli.output import printable, to_dict
from services.cli.session import Decorated, Session, client_command

DEFAULT_COLLECTION = "docs"
DEFAULT_TENANT = "default"
REFUSED = 1


def tenant_option(function: Decorated) -> Decorated:
    """Adds the option that names the tenant."""
    return click.option(
        "--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose collections."
    )(function)


def collection_options(function: Decorated) -> Decorated:
    """Adds the options that name a collection."""
    option = click.option(
        "--collection", "-c", default=DEFAULT_COLLECTION, show_default=True, help="Its ID."
    )
    return option(tenant_option(function))


@click.group()
def docs() -> None:
    """Load, list, show and remove documents that `penstock ask` answers from."""


@docs.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@collection_options
@click.option("--model", "-m", default="", help="Embedding model of a collection that is new.")
@client_command
def load(
    session: Session, paths: tuple[Path, ...], collection: str, tenant: str, model: str
) -> None:
    """Load files and folders into a collection; it is created when there is none.

    Of folders, text, Markdown, HTML and PDF are taken (.txt .rst .md .html .pdf). A document's ID
    is the path of its file from here; loading it again replaces it where it changed.
    """
    files = find_files(paths)
    output = session.output

    async def run() -> Summary:
        async with session.documents() as stub:
            made, is_new = await ensure_collection(stub, tenant, collection, model)
            if is_new:
                output.note(f"New collection {collection}, embedded by {made.embedding_model}.")
            with _progress(session) as progress:
                task = progress.add_task("loading", total=len(files))
                upload = Upload(
                    stub,
                    session.retrieval,
                    collection_name(tenant, collection),
                    files,
                    progress=lambda settled: progress.update(task, completed=settled),
                )
                try:
                    return await upload.run()
                except BaseException:
                    if upload.settled:
                        output.note(
                            f"{upload.settled:,} of {len(files):,} files are done. "
                            "The same command goes on from there."
                        )
                    raise

    summary = asyncio.run(run())
    if output.as_json:
        output.data({"collection": collection_name(tenant, collection), **summary.to_dict()})
    else:
        output.say(summary_text(summary, collection))
        for refusal in summary.refusals:
            output.say(
                Text.assemble(
                    ("✗ ", "red"),
                    (printable(refusal.id), "bold"),
                    f"  {printable(refusal.message)}",
                )
            )
    if summary.refusals:
        raise click.exceptions.Exit(REFUSED)


def summary_text(summary: Summary, collection: str) -> str:
    """Says what a load did, in one line."""
    counts = {
        "new": summary.created,
        "replaced": summary.replaced,
        "unchanged": summary.unchanged,
        "stored before the connection broke": summary.resumed,
        "rejected": len(summary.refusals),
    }
    said = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    chunks = summary.embedded_chunks
    return (
        f"{collection}: {said or 'nothing to do'} "
        f"({chunks:,} chunk{'' if chunks == 1 else 's'} embedded, "
        f"{summary.embedded_tokens:,} token{'' if summary.embedded_tokens == 1 else 's'})."
    )


def _progress(session: Session) -> Progress:
    return Progress(
        TextColumn("{task.description}", style="dim"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=session.output.err,
        transient=True,
        disable=session.output.as_json or not session.output.err.is_terminal,
    )


@docs.command("list")
@collection_options
@click.option("--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True)
@client_command
def list_(session: Session, collection: str, tenant: str, limit: int) -> None:
    """List the documents of a collection, newest first."""

    async def run() -> tuple[list[document_pb2.Document], bool]:
        async with session.documents() as stub:
            return await list_documents(stub, tenant, collection, limit)

    found, has_more = asyncio.run(run())
    if session.output.as_json:
        session.output.data([to_dict(document) for document in found])
    elif found:
        columns = ("document", "title", "chunks", "tokens", "changed")
        session.output.table(columns, map(document_row, found))
    else:
        session.output.note("No documents. `penstock docs load PATH` adds some.")
    if has_more:
        session.output.note(f"There are more; --limit {10 * limit} shows them.")


@docs.command()
@click.argument("document")
@collection_options
@client_command
def show(session: Session, document: str, collection: str, tenant: str) -> None:
    """Show one document with its text."""
    request = retrieval_service_pb2.GetDocumentRequest(
        name=document_name(tenant, collection, document)
    )

    async def run() -> document_pb2.Document:
        async with session.documents() as stub:
            return await stub.GetDocument(request, timeout=UNARY_TIMEOUT_S)

    found = asyncio.run(run())
    if session.output.as_json:
        session.output.data(to_dict(found))
        return
    session.output.facts(document_facts(found))
    session.output.say("")
    click.echo(printable(found.text))


@docs.command()
@click.argument("documents", nargs=-1, required=True)
@collection_options
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@client_command
def remove(
    session: Session, documents: tuple[str, ...], collection: str, tenant: str, yes: bool
) -> None:
    """Remove documents from a collection. Their files stay where they are."""
    names = list(dict.fromkeys(document_name(tenant, collection, id_) for id_ in documents))
    if not yes and not session.output.as_json:
        what = documents[0] if len(names) == 1 else f"{len(names)} documents"
        click.confirm(f"Remove {what} from {collection}?", abort=True, err=True)
    request = retrieval_service_pb2.DeleteDocumentsRequest(
        parent=collection_name(tenant, collection), names=names
    )

    async def run() -> int:
        async with session.documents() as stub:
            answer = await stub.DeleteDocuments(request, timeout=UNARY_TIMEOUT_S)
            return answer.deleted_count

    count = asyncio.run(run())
    missing = len(names) - count
    if session.output.as_json:
        session.output.data({"removed_count": count, "missing_count": missing})
    said = f", {missing:,} {'was' if missing == 1 else 'were'} not there" if missing else ""
    session.output.say(f"{count:,} {'is' if count == 1 else 'are'} removed{said}.")
    if missing:
        raise click.exceptions.Exit(REFUSED)
