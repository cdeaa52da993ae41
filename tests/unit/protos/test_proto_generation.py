"""`protos/generate.py`: what it compares, replaces and refuses."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "protos" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    for root, names in ((fresh, "a/new.py a/same.py"), (committed, "a/same.py b/old.py")):
        for name in names.split():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("1")
    (fresh / "a" / "edited.py").write_text("1")
    (committed / "a" / "edited.py").write_text("2")
    (committed / "b" / "__pycache__").mkdir()
    (committed / "b" / "__pycache__" / "old.pyc").write_text("")
    return fresh, committed


def test_differences_are_named(generate: ModuleType, trees: tuple[Path, Path]) -> None:
    assert generate.differences(*trees) == {
        Path("a/edited.py"): "out of date",
        Path("a/new.py"): "missing",
        Path("b/old.py"): "stale",
    }


def test_applying_leaves_no_difference(generate: ModuleType, trees: tuple[Path, Path]) -> None:
    fresh, committed = trees
    generate.apply(generate.differences(fresh, committed), fresh, committed)
    assert generate.differences(fresh, committed) == {}
    assert not (committed / "b").exists()


def test_a_difference_fails_the_check(
    generate: ModuleType, trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.report(generate.differences(*trees)) == 1
    assert "b/old.py: stale" in capsys.readouterr().err
    assert generate.report({}) == 0


def test_another_generator_is_refused(
    generate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate.wrong_tools() == []
    monkeypatch.setitem(generate.TOOLS, "grpcio-tools", "1.0.0")
    assert generate.wrong_tools()[0].startswith("grpcio-tools must be 1.0.0 and is 1.81.1")


def test_generation_repeats_itself(generate: ModuleType, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert generate.generate(tmp_path / name)
    assert generate.differences(tmp_path / "first", tmp_path / "second") == {}
