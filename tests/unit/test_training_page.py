"""docs/training.md: its examples are good files, and its tables say what the code does.

python tests/unit/test_training_page.py    prints the tables of what is chosen
"""

from __future__ import annotations

import ast
import dataclasses
import io
import re
from pathlib import Path

import pytest

from services.cli.train import train
from services.settings_training import TrainerSettings
from services.training.examples import FORMATS, Format
from services.training.examples.check import check
from services.training.folder import LoraPlan, Plan
from services.training.job_records import JobState
from services.training.transitions import may_follow
from services.training.worker.choices import choose

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")
COUNTS = (20, 50, 200, 1_000, 10_000, 50_000, 200_000)
MODELS = {
    "`penstock-starter` (7 million parameters)": 7_213_312,
    "1 billion parameters": 10**9,
    "8 billion parameters": 8 * 10**9,
}


def rows(header: str) -> list[list[str]]:
    """The rows of the table with such a header, cell by cell."""
    lines = PAGE.split(f"| {header} |", 1)[1].splitlines()[2:]
    table = lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def plan(*, lora: bool) -> Plan:
    return Plan(
        job_id="",
        model_id="",
        base_folder="",
        kind="chat",
        examples="chat",
        lora=LoraPlan() if lora else None,
        seed=0,
    )


def chosen_rows() -> list[list[str]]:
    table: list[list[str]] = []
    for count in COUNTS:
        chosen = choose(plan(lora=True), count, 10**9)
        steps = -(-count // chosen.batch_size) * chosen.epoch_count
        table.append([f"{count:,}", str(chosen.epoch_count), str(chosen.batch_size), f"{steps:,}"])
    return table


def rate_rows() -> list[list[str]]:
    table: list[list[str]] = []
    for name, parameters in MODELS.items():
        rates = (choose(plan(lora=lora), 200, parameters).learning_rate for lora in (True, False))
        table.append([name, *(f"{rate:.2g}" for rate in rates)])
    return table


@pytest.mark.parametrize("format", Format)
def test_the_examples_are_good(format: Format) -> None:
    section = re.split(rf"### \w+ \(`{format.value}`\)", PAGE)[1]
    lines = section.split("```json\n", 1)[1].split("```", 1)[0]
    method = next(method for method, formats in FORMATS.items() if format in formats)
    assert f"`{method.value}`" in section.splitlines()[2]
    found = check(io.BytesIO(lines.encode()), FORMATS[method])
    assert (found.message, found.format) == ("", format)


def test_what_is_chosen_is_what_the_worker_chooses() -> None:
    assert rows("Examples | Epochs | Batch size | Steps") == chosen_rows()
    assert rows("Model | Learning rate of LoRA | of all weights") == rate_rows()


def test_every_state_is_there_with_what_may_follow() -> None:
    table = {cells[0].strip("`"): cells[2] for cells in rows("State | Means | Then")}
    assert list(table) == [state.value for state in JobState]
    for before in JobState:
        after = {state for state in JobState if state is not before and may_follow(before, state)}
        assert set(re.findall(r"`(\w+)`", table[before.value])) == {state.value for state in after}


def test_every_command_is_there() -> None:
    names = [
        cells[0].strip("`").removeprefix("penstock train ") for cells in rows("Command | Does")
    ]
    assert sorted(names) == sorted(train.commands)


def test_settings_have_the_defaults_that_are_said() -> None:
    fields = {field.name: field for field in dataclasses.fields(TrainerSettings)}
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows("Setting | Default |")}
    assert table.pop("folder") == "<data_dir>/training"
    assert fields["folder"].default == Path()
    assert table == {name: str(fields[name].default) for name in table}


def codes() -> set[str]:
    """The codes of all errors that the service makes."""
    found: set[str] = set()
    for path in (ROOT / "services" / "training").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in {"JobError", "Failed", "Failure", "_Part"} or not node.args:
                continue
            words = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
            found |= {each.value for each in words if isinstance(each.value, str)}
    return found


def test_every_error_code_is_there() -> None:
    told = {
        code for cells in rows("`error.code` | Why") for code in re.findall(r"`(\w+)`", cells[0])
    }
    assert codes() - told == set()
    source = "".join(path.read_text("utf-8") for path in (ROOT / "services/training").rglob("*.py"))
    assert {code for code in told if f'"{code}"' not in source} == set()


if __name__ == "__main__":
    for table in (chosen_rows(), rate_rows()):
        print(*(f"| {' | '.join(cells)} |" for cells in table), "", sep="\n")
