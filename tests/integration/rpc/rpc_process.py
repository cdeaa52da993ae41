"""A service's process for tests: the test service under the name of a real one."""

import asyncio
import sys

from services.rpc.process import authenticator_of, client_tls, run_service, server_settings
from services.rpc.server import serve
from services.settings import Settings
from tests.integration.rpc.rpc_kinds import Kinds, registration


async def main(settings: Settings) -> None:
    assert client_tls(settings) is None
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    if settings.api.address == "127.0.0.1:1":  # stands for a model that loads for long
        try:
            print("loading", flush=True)
            await asyncio.sleep(60)
        finally:
            print("cleaned up", flush=True)
    kinds = Kinds()

    async def hook(name: str, context: object) -> None:
        if name.startswith("models/sleep"):
            print("sleeping", file=sys.stderr, flush=True)
            try:
                await asyncio.sleep(float(name.removeprefix("models/sleep")))
            except asyncio.CancelledError:
                await asyncio.sleep(0.3)
                print("freed", file=sys.stderr, flush=True)
                raise

    kinds.hook = hook
    await serve(
        "model",
        server_settings(settings, "model"),
        [registration(kinds)],
        authenticator=authenticator_of(settings),
    )


if __name__ == "__main__":
    run_service("model", main)
