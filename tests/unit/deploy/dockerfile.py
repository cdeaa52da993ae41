"""What a Dockerfile says, by stage: enough of its language to check ours."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.lines if word == instruction]


def stages(path: Path) -> dict[str, Stage]:
    """Returns them by name; what comes before the first is named ""."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", path.read_text()))
    found = {"": Stage("")}
    current = found[""]
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = Stage(base)
        else:
            current.lines.append((word, rest.strip()))
    return found


def inherited(all_stages: dict[str, Stage], name: str, instruction: str) -> list[str]:
    """Returns an instruction's arguments in a stage and in those that it is made from."""
    stage = all_stages.get(name)
    if stage is None:
        return []
    return inherited(all_stages, stage.base, instruction) + stage.all(instruction)


def exec_form(text: str) -> list[str]:
    """Returns the words of a command that no shell sees."""
    words = json.loads(text)
    assert isinstance(words, list)
    return words
