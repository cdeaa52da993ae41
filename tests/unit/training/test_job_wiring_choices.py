"""What the settings of training choose when TrainingService is put together."""

import ast
import dataclasses
from pathlib import Path

import pytest

from services.settings import SettingsError, TrainerSettings
from services.training import __main__ as wiring
from services.training.trainers.local import LocalTrainer
from services.training.trainers.ray_trainer import RayTrainer


def test_every_setting_is_read() -> None:
    """A key that nobody reads would be one that is silently ignored."""
    source = ast.parse(Path(wiring.__file__).read_text())
    read = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert {field.name for field in dataclasses.fields(TrainerSettings)} <= read


async def test_the_trainer_is_a_setting() -> None:
    local = wiring._trainer(TrainerSettings())
    assert isinstance(local, LocalTrainer)
    await local.close()
    ray = wiring._trainer(TrainerSettings(trainer="ray", ray_address="http://head:8265"))
    assert isinstance(ray, RayTrainer)
    await ray.close()


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://"])
def test_an_address_that_is_no_dashboard_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(SettingsError, match=r"\[training\] ray_address"):
        wiring._trainer(TrainerSettings(trainer="ray", ray_address=address))


def test_a_certificate_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = TrainerSettings(
        trainer="ray", ray_address="https://head:8265", ray_ca_file=tmp_path / "none.pem"
    )
    with pytest.raises(SettingsError, match=r"\[training\] ray_ca_file"):
        wiring._trainer(settings)


@pytest.mark.parametrize(
    ("cores", "changes", "threads"),
    [
        (1, {}, 1),
        (2, {}, 1),
        (8, {}, 7),
        (8, {"max_jobs": 2}, 3),
        (8, {"max_jobs": 100}, 1),
        (8, {"worker_threads": 5, "max_jobs": 2}, 5),
        (8, {"trainer": "ray", "ray_address": "http://h", "ray_cpus": 4.0}, 4),
        (8, {"trainer": "ray", "ray_address": "http://h", "ray_cpus": 0.5}, 1),
    ],
)
def test_workers_leave_a_core_to_the_services(
    cores: int, changes: dict[str, object], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    assert wiring._threads(TrainerSettings(**changes)) == threads  # type: ignore[arg-type]
