"""`penstock triton export`, with the process that it starts."""

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from services.cli.triton_export import kind_of
from tests.conformance.embedding.tiny_encoders import save_encoder
from tests.integration.cli.conftest import Penstock


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=1)


def test_a_folder_becomes_a_model(penstock: Penstock, folder: Path, tmp_path: Path) -> None:
    options = ["--queue-timeout", "2", "--preferred-batch-size", "8", "--response-cache"]
    words = ["triton", "export", str(folder), "-o", str(tmp_path / "models"), *options]
    answer = penstock.json(*words, "--weights", "link", "--no-warmup")
    made = tmp_path / "models" / "tiny"
    assert answer == {"kind": "embedding", "written": [str(made)]}
    text = (made / "config.pbtxt").read_text("utf-8")
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    policy = config.dynamic_batching.default_queue_policy
    assert policy.default_timeout_microseconds == 2_000_000
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.response_cache.enable
    assert not config.model_warmup
    assert "tritonserver" in (made / "README.md").read_text("utf-8")
    again = penstock(*words)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert "--name" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "1", "--gpu", "1"], "--gpu"),
        (["--name", "a b"], "--name"),
        (["--rate-limit", "gpu"], "--rate-limit"),
        (["--dtype", "int4"], "float32"),
        (["--timeout-action", "delay"], "queue_timeout_s"),
    ],
)
def test_a_wrong_option_is_named(
    penstock: Penstock, folder: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    result = penstock("triton", "export", str(folder), "-o", str(tmp_path / "models"), *words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not (tmp_path / "models").exists()


def test_a_deployed_model_is_found_by_its_id(penstock: Penstock, tmp_path: Path) -> None:
    result = penstock("triton", "export", "default", "-o", str(tmp_path))
    assert result.exit_code == 1
    assert "`starter` is not on this machine" in result.stderr
    assert "There is no model" in penstock("triton", "export", "nobody", "-o", "x").stderr


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"model_index.json": {}}, "image"),
        ({"modules.json": [], "config.json": {}}, "embedding"),
        ({"config.json": {"architectures": ["BertForSequenceClassification"]}}, "rerank"),
        ({"config.json": {"architectures": ["LlamaForCausalLM"]}}, "chat"),
        ({"config.json": {"architectures": ["BertModel"]}}, "embedding"),
        ({"config.json": {"model_type": "bert"}}, "embedding"),
        ({"config.json": []}, ""),
        ({}, ""),
    ],
)
def test_a_folder_s_files_say_its_kind(files: dict[str, object], kind: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content), "utf-8")
    assert kind_of(tmp_path) == kind


def test_what_a_folder_holds_has_to_be_clear(penstock: Penstock, tmp_path: Path) -> None:
    result = penstock("triton", "export", str(tmp_path), "-o", str(tmp_path / "models"))
    assert result.exit_code == 2
    assert "--kind" in result.stderr
