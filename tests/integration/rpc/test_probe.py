"""Probes of real processes: a service behind mutual TLS, and the edge before it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from policy.pem_files import TlsFileError
from services.cli.main import main as penstock
from services.rpc.probe import main, probe
from services.settings import load
from tests.integration.rpc.rpc_certificates import Authority
from tests.ports import free_port


@dataclass(frozen=True)
class Platform:
    config: Path
    model: subprocess.Popen[bytes]


def start(module: str, config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def started(process: subprocess.Popen[bytes]) -> Mapping[str, str]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("probe")
    authority = Authority(folder, "ca")
    certificate, key = authority.issue("mesh")
    config = folder / "penstock.toml"
    # `target` is how others call it, which is what the certificate is for.
    config.write_text(
        f"""
        [api]
        address = "0.0.0.0:{free_port()}"
        [services]
        data_dir = "{folder}"
        [services.model]
        address = "0.0.0.0:{free_port()}"
        target = "dns:///localhost:1"
        [tls]
        certificate = "{certificate}"
        key = "{key}"
        client_ca = "{authority.certificate}"
        """
    )
    processes = [start("services.model", config), start("gateway", config)]
    try:
        for process in processes:
            started(process)
        yield Platform(config, processes[0])
    finally:
        for process in processes:
            process.kill()
            process.communicate()


CASES = [
    ("model", [], 0, "SERVING"),
    ("model", ["--ready"], 0, "SERVING"),
    ("model", ["--model", "none"], 1, "NOT_FOUND"),
    ("inference", ["--timeout", "0.2"], 1, "DEADLINE_EXCEEDED"),  # nobody is there
    ("gateway", [], 0, "HTTP 200"),
    ("gateway", ["--ready"], 1, "HTTP 503"),  # it says that no inference service is there
]


@pytest.mark.parametrize(("name", "options", "code", "words"), CASES)
def test_a_process_is_asked_over_its_own_settings(
    platform: Platform,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
    code: int,
    words: str,
) -> None:
    assert main([name, "--config", str(platform.config), *options]) == code
    said = capsys.readouterr()
    assert words in (said.err if code else said.out)
    command = CliRunner().invoke(
        penstock, ["health", name, "--config", str(platform.config), "--json", *options]
    )
    assert command.exit_code == code
    answer = json.loads(command.stdout)
    assert (answer["serving"], words in answer["answer"]) == (not code, True)


def test_it_runs_as_images_run_it(platform: Platform) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "services.rpc.probe", "model", "--ready"],
        env=os.environ | {"PENSTOCK_CONFIG": str(platform.config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "model: SERVING\n")


def test_a_certificate_of_another_authority_is_not_believed(
    platform: Platform, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    env = {"PENSTOCK_TLS_CLIENT_CA": str(stranger.certificate)}
    answer = probe("model", load(platform.config, env), timeout_s=0.5)
    assert not answer.serving


def test_settings_that_make_no_sense_are_said(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(TlsFileError):
        probe("model", load(platform.config, {"PENSTOCK_TLS_KEY": str(missing)}))
    wrong = tmp_path / "penstock.toml"
    wrong.write_text("[servces]\n")
    assert main(["model", "--config", str(wrong)]) == 2
    assert "unknown section [servces]" in capsys.readouterr().err


def test_a_process_that_froze_is_not_waited_for(platform: Platform) -> None:
    os.kill(platform.model.pid, 19)  # SIGSTOP
    try:
        answer = probe("model", load(platform.config, {}), timeout_s=0.3)
    finally:
        os.kill(platform.model.pid, 18)  # SIGCONT
    assert not answer.serving
    assert "DEADLINE_EXCEEDED" in answer.words
