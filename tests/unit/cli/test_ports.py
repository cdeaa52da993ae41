import socket
from collections.abc import Iterator

import pytest

from services.cli.failures import Failure
from services.cli.plan import Wish, command, make_plan
from services.cli.ports import (
    Address,
    connectable,
    free_port,
    is_free,
    next_free_port,
    parse_address,
)
from services.cli.roster import EDGE, ROSTER, Entry, runnable
from services.settings import Settings, load

MODEL, INFERENCE = ROSTER[0], ROSTER[1]


@pytest.fixture
def taken() -> Iterator[Address]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield Address("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("127.0.0.1", 80)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:x", "host:65536", "host:-1", "h:٣"])
def test_wrong_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)


def test_addresses_are_written_as_they_are_read() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert parse_address(str(Address("::1", 80))) == ("::1", 80)


def test_clients_reach_everywhere_here() -> None:
    assert connectable(Address("0.0.0.0", 80)) == ("127.0.0.1", 80)
    assert connectable(Address("::", 80)) == ("::1", 80)
    assert connectable(Address("10.0.0.1", 80)) == ("10.0.0.1", 80)


def test_free_and_taken(taken: Address) -> None:
    assert not is_free(taken)
    other = free_port("127.0.0.1")
    assert is_free(Address("127.0.0.1", other))
    with pytest.raises(OSError, match="assign"):
        is_free(Address("192.0.2.1", 80))


def test_the_next_free_port_is_suggested(taken: Address) -> None:
    other = next_free_port(taken)
    assert other is not None
    assert other > taken.port


def settings(**variables: str) -> Settings:
    return load(env={f"PENSTOCK_{name.upper()}": value for name, value in variables.items()})


def test_a_taken_default_port_gives_way_to_a_free_one(
    taken: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cli.plan.is_free", lambda address: address.port != 50051)
    plan = make_plan([MODEL, INFERENCE], settings(), Wish(), "token")
    assert plan.moved == {"model": ("127.0.0.1", 50051)}
    assert plan.addresses["inference"].port == 50052
    moved = plan.addresses["model"]
    assert moved.port not in {50051, 50052}
    assert plan.environment["PENSTOCK_SERVICES_MODEL_ADDRESS"] == str(moved)
    assert plan.environment["PENSTOCK_SERVICES_INFERENCE_ADDRESS"] == "127.0.0.1:50052"
    assert "PENSTOCK_SERVICES_IMAGE_ADDRESS" not in plan.environment, "it does not run"


def test_a_taken_port_that_was_asked_for_is_an_error(taken: Address) -> None:
    asked = settings(services_model_address=str(taken))
    with pytest.raises(Failure, match=str(taken)) as caught:
        make_plan([MODEL], asked, Wish(), "token")
    assert caught.value.exit_code == 2
    with pytest.raises(Failure, match="gateway"):
        make_plan([EDGE], settings(api_address=str(taken)), Wish(), "token")


def test_children_get_what_the_command_line_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PENSTOCK_API_KEY", "for this command alone")
    monkeypatch.setenv("SOMETHING_ELSE", "inherited")
    wish = Wish(port=0, host="0.0.0.0", engine="echo", log_level="debug")
    chosen = load(env={}, overrides=wish.overrides(settings()))
    plan = make_plan([EDGE], chosen, wish, "token")
    environment = plan.environment
    assert environment["PENSTOCK_API_ADDRESS"] == "0.0.0.0:0"
    assert environment["PENSTOCK_SERVICES_INFERENCE_ENGINE"] == "echo"
    assert environment["PENSTOCK_SERVICES_EMBEDDING_ENGINE"] == "echo"
    assert chosen.services.embedding.engine == "echo"
    with_engines = {
        name for name in vars(chosen.services) if hasattr(getattr(chosen.services, name), "engine")
    }
    assert {"inference", "embedding"} <= with_engines
    for name in with_engines:
        assert environment[f"PENSTOCK_SERVICES_{name.upper()}_ENGINE"] == "echo"
    other = Wish(engine="openvino")  # which makes no vectors
    environment = make_plan([EDGE], settings(), other, "token").environment
    assert "PENSTOCK_SERVICES_EMBEDDING_ENGINE" not in environment
    environment = plan.environment
    assert environment["PENSTOCK_LOG_LEVEL"] == "debug"
    assert environment["PENSTOCK_SERVICE_TOKEN"] == "token"
    assert environment["SOMETHING_ELSE"] == "inherited"
    assert "PENSTOCK_API_KEY" not in environment
    assert "token" not in repr(plan)
    words = command(EDGE, plan, tmp_path, tmp_path / "penstock.toml")
    assert words[1:] == [
        *("-P", "-m", "gateway", "--port", "0"),
        *("--data-dir", str(tmp_path), "--config", str(tmp_path / "penstock.toml")),
    ]


def test_only_what_is_installed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MODEL in runnable()
    missing = Entry("dreams", "services.dreams", 0)
    elsewhere = Entry("none", "no_such_package.at_all", 0)
    monkeypatch.setattr("services.cli.roster.ROSTER", (missing, elsewhere, MODEL))
    assert runnable() == [MODEL]


def test_who_calls_others_stops_before_them() -> None:
    stages = {entry.name: entry.stop_stage for entry in ROSTER}
    assert stages["gateway"] < stages["retrieval"] < stages["inference"] < stages["model"]
