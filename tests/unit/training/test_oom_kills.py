"""Where the kernel's count of starved processes is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.training.trainers.environment import selected
from services.training.trainers.memory import oom_kills

EVENTS = "low 0\nhigh 0\nmax 0\noom 1\noom_kill {}\noom_group_kill 9\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, None),
        ({"proc/vmstat": "nr_free_pages 5\noom_kill 4\nthp 1\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "proc/vmstat": "oom_kill 4\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.events": EVENTS.format(2)}, 2),
        # In a container the group is the root of what it sees.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/memory.events": EVENTS.format(3)}, 3),
        (
            {
                "proc/self/cgroup": "9:cpu:/\n4:memory:/c\n0::/\n",
                "sys/fs/cgroup/memory/c/memory.oom_control": CONTROL.format(5),
                "proc/vmstat": "oom_kill 8\n",
            },
            5,
        ),
    ],
)
def test_where_it_is_counted(tmp_path: Path, files: dict[str, str], count: int | None) -> None:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert oom_kills(tmp_path) == count


def test_what_of_the_environment_is_passed_on() -> None:
    given = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "CUDA_VISIBLE_DEVICES": "0",
        "PENSTOCK_SERVICE_TOKEN": "secret",
        "DATABASE_URL": "secret",
        "OPENAI_API_KEY": "secret",
        "HF_HUB_OFFLINE": "0",
        "PATHOLOGY": "secret",
    }
    kept = selected(given)
    assert "secret" not in kept.values()
    assert kept["PATH"] == "/bin"
    assert {"LC_ALL", "CUDA_VISIBLE_DEVICES"} < kept.keys()
    assert kept["HF_HUB_OFFLINE"] == "1"
