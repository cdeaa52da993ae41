"""`penstock status`: whether everything answers."""

import asyncio
from collections.abc import Mapping

import click
from grpc import aio
from penstock.model.v1 import model_pb2

from services.cli.catalog import list_models, model_id, state_name
from services.cli.failures import FAILURE, Failure, Peer
from services.cli.output import state_text, to_dict
from services.cli.ready import is_serving
from services.cli.roster import EDGE
from services.cli.session import Session, client_command
from services.cli.views import model_rows

TIMEOUT_S = 2.0


@click.command()
@client_command
def status(session: Session) -> None:
    """Show what runs and answers. Ends with 1 when the model service is away."""
    states, models, failure = asyncio.run(_ask(session))
    record = session.target.record
    if session.output.as_json:
        session.output.data(
            {
                "url": record.url if record else None,
                "supervisor": record.pids.get("supervisor") if record else None,
                "services": [
                    {"name": peer.name, "address": peer.address, "state": state}
                    for peer, state in states
                ],
                "models": [
                    {"id": model_id(model), "state": state_name(model), "model": to_dict(model)}
                    for model in models
                ],
                **(failure.to_dict() if failure else {}),
            }
        )
        if failure:
            raise SystemExit(FAILURE)
        return
    if record:
        session.output.facts(
            {
                "url": record.url,
                "supervisor": f"process {record.pids['supervisor']}, {record.state}",
            }
        )
        session.output.out.print()
    pids: Mapping[str, int] = record.pids if record else {}
    session.output.table(
        ("service", "address", "state", "process"),
        (
            (peer.name, peer.address, state_text(state), str(pids.get(peer.name, "")))
            for peer, state in states
        ),
    )
    if failure:
        raise failure
    session.output.out.print()
    if models:
        session.output.table(
            ("model", "kind", "state", "context", "revision", ""), model_rows(models)
        )
    else:
        session.output.note("No models. `penstock models deploy` adds one.")


async def _ask(
    session: Session,
) -> tuple[list[tuple[Peer, str]], list[model_pb2.Model], Failure | None]:
    record = session.target.record
    known = {session.model.name: session.model, session.inference.name: session.inference}
    running: Mapping[str, str] = record.addresses if record else {}
    for name, address in running.items():
        if name != EDGE.name:
            known.setdefault(name, Peer(name, address, ""))
    peers = list(known.values())
    states = await asyncio.gather(*(_health(session, peer) for peer in peers))
    models: list[model_pb2.Model] = []
    failure: Failure | None = None
    try:
        async with session.models() as stub:
            models = await list_models(stub)
    except Failure as error:
        failure = error
    return list(zip(peers, states, strict=True)), models, failure


async def _health(session: Session, peer: Peer) -> str:
    async with session.channel(peer) as channel:
        try:
            return "ready" if await is_serving(channel, TIMEOUT_S) else "unavailable"
        except aio.AioRpcError:
            return "away"
