from collections.abc import AsyncIterator

import grpc
import pytest

from policy.token_store import TokenSources
from services.rpc.server import Server, ServerSettings
from tests.integration.rpc.rpc_kinds import Kinds, KindsStub, Tokens, registration


@pytest.fixture
def authenticator() -> Tokens:
    return Tokens(TokenSources(api_tokens=("a-token",)))


@pytest.fixture
def kinds() -> Kinds:
    return Kinds()


@pytest.fixture
async def server(kinds: Kinds, authenticator: Tokens) -> AsyncIterator[Server]:
    server = Server(ServerSettings(grace_s=2), [registration(kinds)], authenticator=authenticator)
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture
async def stub(server: Server) -> AsyncIterator[KindsStub]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield KindsStub(channel)
