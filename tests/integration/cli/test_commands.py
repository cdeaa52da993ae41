import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.main import main
from tests.integration.cli.conftest import ENVIRONMENT, Penstock


def test_models_list_shows_all_pages(penstock: Penstock) -> None:
    result = penstock("models", "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["model", "kind", "state", "context", "revision"]
    assert lines[1].split() == [
        "broken",
        "chat",
        "failed",
        "4,096",
        "1",
        *["no", "weights", "in", "the", "folder"],
    ]
    assert lines[2].split()[:3] == ["other/model:7b", "chat", "ready"]
    assert lines[3].split() == ["starter", "chat", "ready", "4,096", "1", "alias", "default"]


def test_models_list_as_json_and_by_kind(penstock: Penstock) -> None:
    names = [model["name"] for model in penstock.json("models", "list")]
    assert names == ["models/broken", "models/other/model:7b", "models/starter"]
    assert penstock.json("models", "list", "--kind", "image") == []
    assert "No models" in penstock("models", "list", "--kind", "image").stderr


def test_models_get_by_alias(penstock: Penstock) -> None:
    result = penstock("models", "get", "default")
    facts = dict(line.rstrip().split(maxsplit=1) for line in result.stdout.splitlines())
    assert facts["model"] == "starter"
    assert facts["source"] == "/weights/starter"
    assert facts["parameters"] == "10,000,000"
    assert "tools" in result.stdout
    assert penstock.json("models", "get", "default")["name"] == "models/starter"


def test_an_unknown_model_is_one_clear_error(penstock: Penstock) -> None:
    result = penstock("models", "get", "nothing")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == "Error: There is no model 'nothing'."
    assert "MODEL_NOT_FOUND" in result.stderr
    error = json.loads(penstock("models", "get", "nothing", "--json").stderr)["error"]
    assert error["reason"] == "MODEL_NOT_FOUND"
    assert error["code"] == "NOT_FOUND"
    assert error["field"] == "name"


def test_deploy_waits_until_it_serves(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    result = penstock("models", "deploy", "new", "--source", "weights", "--alias", "n")
    assert (result.exit_code, result.stdout) == (0, "new is ready.\n")
    found = penstock.json("models", "get", "n")
    assert found["revision"]["source"] == str(tmp_path / "weights"), "the server is elsewhere"


def test_deploy_without_waiting(penstock: Penstock) -> None:
    result = penstock("models", "deploy", "new", "--source", "org/hub", "--no-wait")
    assert result.exit_code == 0
    assert "is being deployed" in result.stdout


def test_deploy_of_a_broken_model_fails_with_its_reason(penstock: Penstock) -> None:
    result = penstock("models", "deploy", "new", "--source", "broken")
    assert result.exit_code == 1
    assert "Error: new can't be loaded: bad weights" in result.stderr


def test_a_broken_update_leaves_the_old_revision_serving(penstock: Penstock) -> None:
    result = penstock("models", "deploy", "starter", "--source", "broken", "--update")
    assert result.exit_code == 1
    assert "bad weights" in result.stderr
    assert "keeps serving" in result.stderr


def test_deploy_twice_needs_update(penstock: Penstock) -> None:
    result = penstock("models", "deploy", "starter", "--source", "x")
    assert result.exit_code == 1
    assert "ALREADY_EXISTS" in result.stderr
    assert penstock("models", "deploy", "starter", "--source", "x", "--update").exit_code == 0


def test_remove_asks_first(penstock: Penstock) -> None:
    penstock("models", "deploy", "new", "--source", "x")
    assert penstock("models", "remove", "new", text="n\n").exit_code == 1
    assert penstock("models", "remove", "new", text="y\n").stdout.endswith("new is removed.\n")
    assert penstock("models", "get", "new").exit_code == 1
    result = penstock("models", "remove", "starter", "--yes")
    assert "FAILED_PRECONDITION" in result.stderr


def test_config(penstock: Penstock) -> None:
    assert penstock.json("models", "config", "get", "starter")["etag"] == "e1"
    changed = penstock.json(
        "models", "config", "set", "starter", "default_temperature=0.5", 'stop=["END"]'
    )
    assert changed["default_temperature"] == 0.5
    assert changed["stop"] == ["END"]
    changed = penstock.json("models", "config", "set", "starter", "default_temperature=")
    assert "default_temperature" not in changed
    assert changed["stop"] == ["END"]
    shown = penstock("models", "config", "get", "starter").stdout
    assert "default_temperature  –" in shown


def test_config_honours_the_etag(penstock: Penstock) -> None:
    words = ("models", "config", "set", "starter", "max_batch_size=4", "--etag")
    assert penstock(*words, "e1").exit_code == 0
    result = penstock(*words, "e1")
    assert result.exit_code == 1
    assert "CONFLICT" in result.stderr


def test_alias(penstock: Penstock) -> None:
    assert penstock.json("models", "alias", "starter", "a", "b")["aliases"] == ["a", "b"]
    assert "aliases" not in penstock.json("models", "alias", "starter")


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_user_may_not_deploy(penstock: Penstock, how: str) -> None:
    words = ["models", "deploy", "new", "--source", "x", *penstock.options]
    variables = dict(ENVIRONMENT)
    if how == "option":
        words += ["--api-key", "user-key"]
    else:
        variables["PENSTOCK_API_KEY"] = "user-key"
    result = CliRunner().invoke(main, words, env=variables)
    assert result.exit_code == 1
    assert "PERMISSION_DENIED" in result.stderr


def test_a_wrong_key_says_how_to_give_one(penstock: Penstock) -> None:
    result = penstock("models", "list", "--api-key", "wrong")
    assert result.exit_code == 1
    assert "unknown, revoked or expired" in result.stderr
    assert "PENSTOCK_API_KEY" in result.stderr


def test_the_server_is_away(tmp_path: Path) -> None:
    words = ["models", "list", "--data-dir", str(tmp_path), "--model-address", "127.0.0.1:1"]
    result = CliRunner().invoke(main, words, env=ENVIRONMENT)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: Can't reach the model service at 127.0.0.1:1.",
        "Start Penstock with `penstock serve`, or name another address with --model-address.",
    ]


def test_status(penstock: Penstock) -> None:
    result = penstock("status")
    assert result.exit_code == 0
    assert "ready" in result.stdout
    assert "starter" in result.stdout
    found = penstock.json("status")
    assert [service["state"] for service in found["services"]] == ["ready", "ready"]
    words = ["status", *penstock.options, "--model-address", "127.0.0.1:1"]
    away = CliRunner().invoke(main, words, env=ENVIRONMENT)
    assert away.exit_code == 1
    assert "away" in away.stdout


def test_wrong_settings_end_with_2(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("[api]\nadress = '127.0.0.1:1'\n")
    result = penstock("models", "list")
    assert result.exit_code == 2
    assert "did you mean 'address'" in result.stderr


def test_chat_once(penstock: Penstock) -> None:
    result = penstock("chat", "--once", "hello there")
    assert (result.exit_code, result.stdout) == (0, "hello there \n")


def test_chat_takes_the_default_model(penstock: Penstock) -> None:
    assert penstock("chat", "--once", "count").stdout == "1 messages, starter\n"
    assert penstock("chat", "--once", "think").stdout == "So it is.\n"
    named = penstock(
        "chat", "--once", "count", "--model", "other/model:7b", "--system", "Be brief."
    )
    assert named.stdout == "2 messages, other/model:7b\n"


def test_chat_reads_a_pipe(penstock: Penstock) -> None:
    assert penstock("chat", text="line one\nline two\n").stdout == "line one\nline two\n \n"
    assert penstock("chat", text=" \n").exit_code == 2


def test_chat_as_json_lines(penstock: Penstock) -> None:
    lines = penstock("chat", "--once", "a b", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [next(iter(event)) for event in events] == [
        "started",
        "delta",
        "delta",
        "finished",
        "done",
    ]
    assert events[-1]["done"]["usage"]["total_tokens"] == "8"
    assert events[-2]["finished"]["reason"] == "FINISH_REASON_STOP"


def test_chat_shows_tool_calls(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('[{"type": "function", "function": {"name": "f"}}]')
    result = penstock("chat", "--once", "tools", "--tools", "tools.json")
    assert result.stdout == '→ get_weather({"city": "Paris"})\n'


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"name": "f"}', '[{"nome": "f"}]'])
def test_chat_refuses_wrong_tools(penstock: Penstock, tmp_path: Path, text: str) -> None:
    (tmp_path / "tools.json").write_text(text)
    result = penstock("chat", "--once", "x", "--tools", "tools.json")
    assert result.exit_code == 2
    assert "not a JSON list of functions" in result.stderr


def test_chat_shows_errors(penstock: Penstock) -> None:
    result = penstock("chat", "--once", "full")
    assert result.exit_code == 1
    assert "QUEUE_FULL" in result.stderr
    assert "in 2 s" in result.stderr
    result = penstock("chat", "--once", "x", "--top-p", "0.5")
    assert "sampling.top_p" in result.stderr
    result = penstock("chat", "--once", "cut")
    assert result.exit_code == 1
    assert result.stdout == "half an ans\n"
    assert "cut short" in result.stderr
    result = penstock("chat", "--once", "long")
    assert result.exit_code == 0
    assert "limit of tokens" in result.stderr


def test_chat_lets_no_escape_sequences_through(penstock: Penstock) -> None:
    assert penstock("chat", "--once", "escape").stdout == "[31mred[0m\n"


def test_keys(penstock: Penstock) -> None:
    made = penstock.json("keys", "create", "--file", "laptop", "--role", "user", "--expires", "30d")
    assert made["key"].startswith("pnstk_")
    assert os.stat(penstock.data_dir / "tokens.json").st_mode & 0o777 == 0o600
    shown = penstock("keys", "create", "--file", "boss", "--role", "admin")
    assert "not shown again" in shown.stderr
    listed = penstock("keys", "list", "--file")
    assert "laptop" in listed.stdout
    assert made["key"] not in listed.stdout + (penstock.data_dir / "tokens.json").read_text()
    assert penstock("keys", "revoke", "--file", made["id"]).exit_code == 0
    assert [key["name"] for key in penstock.json("keys", "list", "--file")] == ["boss"]
    again = penstock("keys", "revoke", "--file", made["id"])
    assert again.exit_code == 1
    assert "no key with the ID" in again.stderr
    assert penstock("keys", "create", "--file", "x", "--expires", "soon").exit_code == 2
    assert penstock("keys", "create", "--file", "x", "--role", "service").exit_code == 2


def test_keys_of_tenants_and_of_users_of_gel(penstock: Penstock) -> None:
    made = penstock.json("keys", "create", "--file", "a", "--tenant", "acme", "--tenant", "*")
    assert made["tenants"] == ["acme", "*"]
    shown = penstock("keys", "create", "--file", "b", "--gel-user", "alice")
    assert "alice" in shown.stdout
    listed = penstock("keys", "list", "--file")
    assert "acme, *" in listed.stdout
    assert "alice" in listed.stdout
    found = {key["name"]: key for key in penstock.json("keys", "list", "--file")}
    assert found["b"]["tenants"] == ["default"]
    assert found["b"]["gel_user"] == "alice"
    assert found["a"]["gel_user"] is None
    for option, value in (("--tenant", "a/b"), ("--tenant", ""), ("--gel-user", "a:b")):
        refused = penstock("keys", "create", "--file", "c", option, value)
        assert refused.exit_code == 2
        assert "Take up to" in refused.stderr


def test_a_broken_token_file_is_said_so(penstock: Penstock) -> None:
    (penstock.data_dir / "tokens.json").write_text("nonsense")
    result = penstock("keys", "list", "--file")
    assert result.exit_code == 1
    assert "is not JSON" in result.stderr
