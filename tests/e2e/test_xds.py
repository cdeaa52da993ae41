"""No proxy between: the edge finds services as a control plane tells it (`xds:///` targets)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx
from penstock.model.v1 import model_pb2, model_service_pb2

from tests.e2e.envoy_peer import Peer
from tests.e2e.stack import REPOSITORY, USER_TOKEN, until

CONTROL = Path(sys.prefix) / "clients" / "xds" / "bin" / "python"


@contextlib.contextmanager
def started(*words: str | Path, **more: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """A process: what goes into it, and what comes out."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    with subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env=own | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.terminate()


def serving(name: str) -> Peer:
    """A ModelService with one model."""
    answer = model_service_pb2.ListModelsResponse(
        models=[model_pb2.Model(name=f"models/{name}", state=model_pb2.Model.STATE_READY)]
    )
    return Peer(lambda _, __: iter([answer.SerializeToString()]))


def test_services_are_where_the_control_plane_says(tmp_path: Path) -> None:
    with serving("one") as one, serving("two") as two, serving("three") as three:
        places = {"penstock-model": [one.address, two.address]}
        with started(CONTROL, REPOSITORY / "tests" / "e2e" / "xds_server.py") as (tell, told):
            tell.write(json.dumps(places) + "\n")
            bootstrap = {
                "xds_servers": [
                    {
                        "server_uri": f"127.0.0.1:{told.readline().strip()}",
                        "channel_creds": [{"type": "insecure"}],
                        "server_features": ["xds_v3"],
                    }
                ],
                "node": {"id": "edge"},
            }
            with started(
                *(sys.executable, "-m", "gateway", "--port", "0", "--data-dir", tmp_path),
                GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(bootstrap),
                PENSTOCK_SERVICES_MODEL_TARGET="xds:///penstock-model",
                API_TOKENS=USER_TOKEN,
            ) as (_, ready):
                url = f"http://{json.loads(ready.readline())['address']}/v1/models"
                headers = {"authorization": f"Bearer {USER_TOKEN}"}

                def models() -> str:
                    answer = httpx.get(url, headers=headers, timeout=60)
                    assert answer.status_code == 200, answer.text
                    (model,) = answer.json()["data"]
                    return model["id"]

                assert {models() for _ in range(8)} == {"one", "two"}
                tell.write(json.dumps({"penstock-model": [three.address]}) + "\n")
                until(lambda: models() == "three")
                assert {models() for _ in range(4)} == {"three"}
