"""`penstock collections`: what documents are kept in."""

import asyncio

import click
from penstock.retrieval.v1 import collection_pb2, retrieval_service_pb2

from services.cli.docs import tenant_option
from services.cli.documents import (
    UNARY_TIMEOUT_S,
    collection_name,
    collection_row,
    list_collections,
)
from services.cli.output import to_dict
from services.cli.session import Session, client_command


@click.group()
def collections() -> None:
    """List and delete collections of documents."""


@collections.command("list")
@tenant_option
@client_command
def list_(session: Session, tenant: str) -> None:
    """List the collections of a tenant, newest first."""

    async def run() -> list[collection_pb2.Collection]:
        async with session.documents() as stub:
            return await list_collections(stub, tenant)

    found = asyncio.run(run())
    if session.output.as_json:
        session.output.data([to_dict(collection) for collection in found])
    elif found:
        columns = ("collection", "model", "documents", "chunks", "size")
        session.output.table(columns, map(collection_row, found))
    else:
        session.output.note("No collections. `penstock docs load PATH` makes one.")


@collections.command()
@click.argument("collection")
@tenant_option
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@client_command
def delete(session: Session, collection: str, tenant: str, yes: bool) -> None:
    """Delete a collection with all its documents."""
    if not yes and not session.output.as_json:
        click.confirm(f"Delete {collection} with all its documents?", abort=True, err=True)
    request = retrieval_service_pb2.DeleteCollectionRequest(
        name=collection_name(tenant, collection)
    )

    async def run() -> None:
        async with session.documents() as stub:
            await stub.DeleteCollection(request, timeout=UNARY_TIMEOUT_S)

    asyncio.run(run())
    if session.output.as_json:
        session.output.data({"deleted": collection})
    session.output.say(f"{collection} is deleted.")
