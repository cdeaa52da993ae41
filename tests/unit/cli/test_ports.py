import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.cli.failures import Failure
from services.cli.plan import Plan, Wish, command, later, make_plan
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


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> dict[str, Address]:
    """Default addresses of the services that are free here, whatever else this machine runs."""
    standard = Settings()
    names = [entry.name for entry in ROSTER if entry is not EDGE]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = [listener.getsockname()[1] for listener in sockets]
    found = {name: Address("127.0.0.1", port) for name, port in zip(names, ports, strict=True)}
    services = replace(
        standard.services,
        **{
            name: replace(getattr(standard.services, name), address=str(address))
            for name, address in found.items()
        },
    )
    monkeypatch.setattr("services.cli.plan.Settings", lambda: replace(standard, services=services))
    return found


def standing(defaults: dict[str, Address], **changes: str) -> Settings:
    """Settings with those defaults, and with what somebody asked for."""
    addresses = {f"services_{name}_address": str(each) for name, each in defaults.items()}
    return settings(**{"api_address": "127.0.0.1:0", **addresses, **changes})


def none_shared(plan: Plan) -> bool:
    ports = [address.port for address in plan.addresses.values()]
    return len(set(ports)) == len(ports)


def test_free_ports_are_none_of_those_that_others_want() -> None:
    wanted = [port for port in range(65536) if port // 2 % 4]
    assert free_port("127.0.0.1", wanted) // 2 % 4 == 0


def test_the_defaults_of_a_free_machine(defaults: dict[str, Address]) -> None:
    plan = make_plan(ROSTER, standing(defaults), Wish(), "token")
    assert plan.addresses == {**defaults, "gateway": ("127.0.0.1", 0)}
    assert plan.moved == {}


def test_a_taken_default_port_gives_way_to_a_free_one(
    defaults: dict[str, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    avoided: list[set[int]] = []

    def chosen(host: str, taken: set[int]) -> int:
        avoided.append(set(taken))
        return free_port(host, taken)

    monkeypatch.setattr("services.cli.plan.free_port", chosen)
    with socket.create_server(defaults["model"]):
        plan = make_plan([MODEL, INFERENCE, EDGE], standing(defaults), Wish(), "token")
    assert plan.moved == {"model": defaults["model"]}
    moved = plan.addresses["model"]
    assert moved.host == "127.0.0.1"
    assert plan.addresses["inference"] == defaults["inference"]
    assert avoided == [{defaults["model"].port, defaults["inference"].port, 0}]
    assert none_shared(plan)
    assert plan.environment["PENSTOCK_SERVICES_MODEL_ADDRESS"] == str(moved)
    told = plan.environment["PENSTOCK_SERVICES_INFERENCE_ADDRESS"]
    assert told == str(defaults["inference"])
    assert "PENSTOCK_SERVICES_IMAGE_ADDRESS" not in plan.environment, "it does not run"


def test_two_that_move_get_two_ports(
    defaults: dict[str, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the kernel would offer the same one twice."""
    same, other = free_port("127.0.0.1"), free_port("127.0.0.1")
    offers = [same, same, other]

    def offered(_: str, taken: set[int]) -> int:
        return next(port for port in offers if port not in taken)

    monkeypatch.setattr("services.cli.plan.free_port", offered)
    with socket.create_server(defaults["model"]), socket.create_server(defaults["inference"]):
        plan = make_plan([MODEL, INFERENCE], standing(defaults), Wish(), "token")
    assert {address.port for address in plan.addresses.values()} == {same, other}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
@pytest.mark.parametrize("name", [entry.name for entry in ROSTER if entry is not EDGE])
def test_a_service_gives_its_default_port_to_the_edge(
    name: str, host: str, defaults: dict[str, Address]
) -> None:
    port = defaults[name].port
    wish = Wish(host=host, port=port)
    edge = wish.overrides(settings())["api.address"]
    plan = make_plan(ROSTER, standing(defaults, api_address=str(edge)), wish, "token")
    assert plan.addresses["gateway"] == (host, port)
    assert plan.moved == {name: defaults[name]}
    assert plan.addresses[name].port not in {0, port}
    assert none_shared(plan)


def test_a_service_gives_its_default_port_to_a_later_one_that_asks_for_it(
    defaults: dict[str, Address],
) -> None:
    asked = standing(defaults, services_inference_address=str(defaults["model"]))
    plan = make_plan([MODEL, INFERENCE], asked, Wish(), "token")
    assert plan.addresses["inference"] == defaults["model"]
    assert plan.moved == {"model": defaults["model"]}


def test_two_that_ask_for_one_address(defaults: dict[str, Address]) -> None:
    port = free_port("127.0.0.1")
    both = {f"services_{name}_address": f"127.0.0.1:{port}" for name in ("model", "inference")}
    with pytest.raises(Failure, match="where inference shall listen, is taken by model"):
        make_plan([MODEL, INFERENCE], standing(defaults, **both), Wish(), "token")
    edge = {"services_model_address": f"127.0.0.1:{port}", "api_address": f"0.0.0.0:{port}"}
    with pytest.raises(Failure, match="where model shall listen, is taken by gateway") as caught:
        make_plan(ROSTER, standing(defaults, **edge), Wish(), "token")
    assert caught.value.field == "services.model.address"


def test_port_0_of_a_service_is_a_port_that_others_are_told(defaults: dict[str, Address]) -> None:
    asked = standing(defaults, services_model_address="127.0.0.1:0")
    plan = make_plan([MODEL, EDGE], asked, Wish(), "token")
    assert plan.addresses["model"].port != 0
    assert plan.environment["PENSTOCK_SERVICES_MODEL_ADDRESS"] == str(plan.addresses["model"])
    assert plan.addresses["gateway"].port == 0, "it says where it is, and nobody calls it before"
    assert plan.moved == {}


def test_an_address_of_the_edge_that_is_none() -> None:
    with pytest.raises(Failure, match="not host:port") as caught:
        Wish(port=1).overrides(settings(api_address="somewhere"))
    assert caught.value.field == "api.address"


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
    environment = make_plan([EDGE], settings(api_address="127.0.0.1:0"), other, "token").environment
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


def test_on_few_processors_what_a_chat_does_without_starts_later() -> None:
    waiting = {"embedding", "image", "training", "retrieval"}
    assert later(ROSTER, Settings(), len(ROSTER) - 1) == waiting
    assert later(ROSTER, Settings(), len(ROSTER)) == frozenset()


def test_nothing_waits_for_a_service_that_loads_nothing() -> None:
    settings = load(env={}, overrides={"services.inference.engine": "echo"})
    assert later(ROSTER, settings, 1) == frozenset()
