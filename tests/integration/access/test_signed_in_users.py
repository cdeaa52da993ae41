"""Tokens of an identity provider, taken by a real edge and by a service, while keys rotate."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import grpc
import httpx
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceStub

from gateway.settings import load
from tests.integration.gateway.conftest import live_edge
from tests.integration.reasons import outcome
from tests.integration.serving_processes import run_processes
from tests.unit.policy.identity_provider import AUDIENCE, ISSUER, SigningKey, running_provider

CONFIG = """
[auth.jwt]
issuer = "{issuer}"
audience = "{audience}"
jwks_url = "{url}"
roles_claim = "realm_access.roles"
role_map = ["ml-users=user", "ml-leads=model_manager"]
tenants_claim = "org"
[api.models.talker]
path = "nothing"
"""


async def test_a_user_signs_in(tmp_path: Path) -> None:
    first, second = SigningKey("first"), SigningKey("second", "RS256")

    def token(key: SigningKey, *roles: str, **claims: object) -> str:
        return key.sign(realm_access={"roles": ["offline", *roles]}, **claims)

    with running_provider() as provider:
        provider.tell(first)
        config = CONFIG.format(issuer=ISSUER, audience=AUDIENCE, url=provider.url)
        async with run_processes(tmp_path, "model", config) as processes:
            settings = load(tmp_path / "penstock.toml", data_dir=tmp_path, port=0, environ={})
            addresses = dict.fromkeys(settings.addresses, "127.0.0.1:1")
            addresses["model"] = processes.address("model")
            settings = dataclasses.replace(settings, addresses=addresses)
            async with (
                live_edge(settings) as (_, _, host, port),
                httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as edge,
                grpc.aio.insecure_channel(processes.address("model")) as channel,
            ):
                keys = KeyServiceStub(channel)

                async def at_edge(credential: str, method: str = "GET") -> int:
                    path = "/v1/models" if method == "GET" else "/v1/models/talker"
                    headers = {"authorization": f"Bearer {credential}"}
                    return (await edge.request(method, path, headers=headers)).status_code

                async def at_service(credential: str) -> service_pb.Caller | str:
                    metadata = (("authorization", f"Bearer {credential}"),)
                    call = keys.GetCaller(service_pb.GetCallerRequest(), metadata=metadata)
                    return await outcome(call)

                alice = token(first, "ml-users", org=["acme"], name="Alice")
                # Whatever dialect comes first has the provider's keys fetched.
                answer = await edge.post(
                    "/branch/default/ai/embeddings",
                    json={"model": "m", "inputs": ["a"]},
                    headers={"authorization": f"Bearer {token(first, 'ml-users')}"},
                )
                assert answer.json()["type"] == "AIProviderError", "nobody embeds here"
                assert "Keys can't be checked" not in answer.text
                assert await at_edge(alice) == 200
                caller = await at_service(alice)
                assert (caller.id, caller.display_name) == ("jwt:alice", "Alice")
                assert (caller.roles, caller.tenants) == ([pb.ROLE_USER], ["acme"])
                assert await at_edge(token(first), "GET") == 403, "a user without a role"
                assert await at_service(token(first)) == "PERMISSION_DENIED"
                assert await at_edge(token(first, aud="another")) == 401
                assert await at_service(token(first, aud="another")) == "INVALID_CREDENTIALS"
                assert await at_service(token(first, "ml-users", exp=1)) == "INVALID_CREDENTIALS"

                provider.tell(first, second)
                bob = token(second, "ml-leads", sub="bob")
                async with asyncio.timeout(60):  # strangers have keys fetched now and then only
                    while True:
                        if await at_edge(bob) == 200:
                            break
                        await asyncio.sleep(0.2)
                assert await at_edge(alice, "DELETE") == 403
                assert (await at_service(bob)).roles == [pb.ROLE_MODEL_MANAGER]
