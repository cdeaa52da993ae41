"""Envoy with TLS to callers and mutual TLS to services: who is who, and new certificates."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from grpc import StatusCode
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from tests.e2e.envoy_process import Front, alone, envoy, running_envoy
from tests.e2e.envoy_render import Options
from tests.e2e.secured import Secured, secured
from tests.e2e.stack import USER_TOKEN, until
from tests.integration.access.certificates import Authority
from tests.ports import free_port
from tests.rotated_certificates import CertificateFolder

HEADERS = {"authorization": f"Bearer {USER_TOKEN}"}
KEY = tuple(HEADERS.items())
MESSAGES = [{"role": "user", "content": "hello"}]
NATIVE = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "hello"}]}]}
CHAT = inference_pb.ChatRequest(
    model="echo",
    messages=[message_pb.Message(role=message_pb.ROLE_USER, parts=[message_pb.Part(text="hello")])],
)


@dataclass
class Mesh:
    """The platform, its authorities, and the front."""

    old: Authority
    new: Authority
    platform: Secured
    front: Front

    def http(self) -> httpx.Client:
        """A client with a connection of its own."""
        context = ssl.create_default_context(cafile=str(self.platform.identities["front"].ca))
        url = self.front.url.replace("127.0.0.1", "localhost")
        return httpx.Client(base_url=url, headers=HEADERS, verify=context, timeout=60)

    def channel(self, front: Front | None = None) -> grpc.Channel:
        ca = self.platform.identities["front"].ca.read_bytes()
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = (front or self.front).address.replace("127.0.0.1", "localhost")
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), options=options)


def behind(platform: Secured, secrets: str, **more: Any) -> Any:
    at = platform.addresses
    places = alone(
        model=(at["model"],),
        inference=(at["inference"],),
        # What listens there shows another name than this service's.
        training=(at["inference"],),
        edge=(at["gateway"],),
    )
    return Options(mtls=True, endpoints=places, secrets=secrets, **more)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mtls")
    old, new = Authority(folder, "old"), Authority(folder, "new")
    with secured(folder, old) as platform:
        options = behind(platform, platform.secrets("secrets"), http3=True)
        healthy = ("model", "inference", "edge")
        with envoy(folder / "envoy-process", options, healthy=healthy) as front:
            made = Mesh(old, new, platform, front)
            with made.http() as http:  # until the model serves
                until(lambda: http.post("/penstock/v1/models/echo:chat", json=NATIVE).is_success)
            yield made


REST: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "echo", "messages": MESSAGES}),
    "anthropic": ("/v1/messages", {"model": "echo", "messages": MESSAGES, "max_tokens": 9}),
    "velesio": ("/chat/completions", {"messages": MESSAGES}),
    "ollama": ("/api/chat", {"model": "echo", "messages": MESSAGES, "stream": False}),
    "botserver": ("/api/v1/ai/chat/completions", {"messages": MESSAGES}),
    "native": ("/penstock/v1/models/echo:chat", NATIVE),
    "native stream": ("/penstock/v1/models/echo:streamChat", NATIVE),
}


def test_every_way_in_works(mesh: Mesh) -> None:
    with mesh.http() as http:
        for name, (path, body) in REST.items():
            answer = http.post(path, json=body)
            assert answer.status_code == 200, (name, answer.text)
            assert "hello" in answer.text or "".join(deltas(answer.text)) == "hello", name
        assert http.post("/v1/chat/completions", headers={"authorization": "x"}).status_code == 401
        assert "h3=" in http.get("/health").headers["alt-svc"]
    with mesh.channel() as channel:
        events = list(InferenceServiceStub(channel).StreamChat(CHAT, metadata=KEY, timeout=30))
        ends = [event.WhichOneof("event") for event in (events[0], events[-1])]
        assert ends == ["started", "done"]
        with pytest.raises(grpc.RpcError) as raised:
            InferenceServiceStub(channel).Chat(CHAT, timeout=30)
        # Envoy has a certificate, but who asks it for something is not Envoy.
        assert raised.value.code() is StatusCode.UNAUTHENTICATED  # pyright: ignore
    assert mesh.front.stat("cluster.inference.ssl.handshake") > 0


def deltas(lines: str) -> Iterator[str]:
    for line in lines.splitlines():
        event = json.loads(line)
        if "delta" in event:
            yield event["delta"]["text"]


def test_a_service_with_another_name_is_not_spoken_to(mesh: Mesh) -> None:
    with mesh.http() as http:
        answer = http.get("/penstock/v1/trainingJobs")
    assert (answer.status_code, answer.json()["code"]) == (503, 14)
    assert mesh.front.stat("cluster.training.ssl.fail_verify_san") > 0
    assert mesh.front.stat("cluster.training.ssl.handshake") == 0


def test_callers_with_another_name_are_not_answered(mesh: Mesh, tmp_path: Path) -> None:
    stranger = CertificateFolder(tmp_path / "stranger", "spiffe://elsewhere/envoy")
    stranger.fill(mesh.old)
    unknown = CertificateFolder(tmp_path / "unknown", "spiffe://penstock/envoy")
    unknown.fill(Authority(tmp_path, "nobodys"), mesh.old)
    for who, code in ((stranger, StatusCode.PERMISSION_DENIED), (unknown, StatusCode.UNAVAILABLE)):
        options = behind(mesh.platform, mesh.platform.secrets(f"of-{who.folder.name}", who))
        with (
            envoy(tmp_path / f"{who.folder.name}-front", options, healthy=["edge"]) as front,
            mesh.channel(front) as channel,
        ):
            # Its health checks are refused too, so it knows of no service to ask.
            assert refused(InferenceServiceStub(channel)) is StatusCode.UNAVAILABLE
        files = (mesh.platform.identities["inference"].ca, who.key, who.certificate)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        with grpc.secure_channel(mesh.platform.addresses["inference"], credentials) as channel:
            assert refused(InferenceServiceStub(channel)) is code


def refused(stub: InferenceServiceStub) -> StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Chat(CHAT, metadata=KEY, timeout=30)
    return raised.value.code()  # pyright: ignore


def test_http3_carries_the_same(mesh: Mesh, tmp_path: Path) -> None:
    """Its client is another Envoy: nobody else here speaks HTTP/3."""
    port = free_port()
    ca = mesh.platform.identities["front"].ca
    front = mesh.front.address.rpartition(":")[2]
    bootstrap = Path(__file__).with_name("http3_client.yaml").read_text() % {
        "port": port,
        "front": front,
        "ca": ca,
    }
    with running_envoy(tmp_path, bootstrap) as process:

        def listens() -> bool:
            assert process.poll() is None, (tmp_path / "envoy.log").read_text()
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        url = f"http://127.0.0.1:{port}"
        for path, body in REST.values():
            answer = httpx.post(url + path, json=body, headers=HEADERS, timeout=60)
            assert answer.status_code == 200, answer.text
    found = mesh.front.accesses(len(REST), protocol="HTTP/3", status=200)
    assert len(found) == len(REST)


class Load:
    """Calls of all kinds, one after the other, until it is left; remembers what failed."""

    def __init__(self, mesh: Mesh) -> None:
        self.failures: list[str] = []
        self.done = 0
        self._over = threading.Event()
        works = (self._rest, self._fresh, self._grpc)
        self._threads = [threading.Thread(target=self._run, args=(mesh, work)) for work in works]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Waits for some more."""
        goal = self.done + count
        until(lambda: self.done >= goal)

    def _run(self, mesh: Mesh, work: Callable[[Mesh], None]) -> None:
        try:
            work(mesh)
        except Exception as error:
            self.failures.append(repr(error))

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code != 200 or "hello" not in answer.text:
            self.failures.append(answer.text)
        self.done += 1

    def _rest(self, mesh: Mesh) -> None:
        with mesh.http() as http:
            while not self._over.wait(0.02):
                self._check(http.post(REST["openai"][0], json=REST["openai"][1]))

    def _fresh(self, mesh: Mesh) -> None:
        while not self._over.wait(0.02):
            with mesh.http() as http:
                self._check(http.post(REST["native"][0], json=REST["native"][1]))

    def _grpc(self, mesh: Mesh) -> None:
        with mesh.channel() as channel:
            while not self._over.wait(0.02):
                list(InferenceServiceStub(channel).StreamChat(CHAT, metadata=KEY, timeout=60))
                self.done += 1


def shown(address: str, client: CertificateFolder) -> int:
    """The serial number of the certificate that is shown there."""
    context = ssl.create_default_context(cafile=str(client.ca))
    context.load_cert_chain(client.certificate, client.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found).serial_number


def serial(folder: CertificateFolder) -> int:
    return x509.load_pem_x509_certificate(folder.certificate.read_bytes()).serial_number


def test_no_request_is_lost_when_all_certificates_change(mesh: Mesh) -> None:
    """Another authority takes over; what nobody believes any more can't have helped."""
    platform, everybody = mesh.platform, mesh.platform.identities
    updates = "cluster.inference.client_ssl_socket_factory.ssl_context_update_by_sds"
    with mesh.channel() as channel, Load(mesh) as load:
        watch = ModelServiceStub(channel).WatchModels(model_pb.WatchModelsRequest(), metadata=KEY)
        next(watch)
        load.more(5)
        both = (mesh.old, mesh.new)
        for signs, trusted in ((mesh.old, both), (mesh.new, both), (mesh.new, (mesh.new,))):
            before = mesh.front.stat(updates)
            for identity in everybody.values():
                identity.fill(signs, *trusted)
            until(lambda: mesh.front.stat(updates) > before)  # noqa: B023
            own = serial(everybody["front"])
            until(lambda: shown(mesh.front.address, everybody["envoy"]) == own)  # noqa: B023
            for service in ("model", "inference"):
                at = platform.addresses[service]
                assert shown(at, everybody["envoy"]) == serial(everybody[service])
            time.sleep(1.1)  # as often as channels look for new files
            load.more(10)
        assert watch.is_active()
        watch.cancel()
    assert load.failures == []

    # Connections that were there need no certificate. From here on, all are new.
    platform.stop("inference")
    platform.start("inference")
    with mesh.http() as http:
        for name in ("openai", "native"):
            path, body = REST[name]
            until(lambda: http.post(path, json=body).is_success)  # noqa: B023
