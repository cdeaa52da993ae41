"""Files of the deployment as a linter reads them: no key twice, no ambiguous value, no litter."""

from pathlib import Path

import pytest
from yamllint import linter
from yamllint.config import YamlLintConfig

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
RULES = YamlLintConfig(
    "extends: default\n"
    "rules:\n"
    "  line-length: disable\n"
    "  document-start: disable\n"
    "  comments: {min-spaces-from-content: 1}\n"
    "  indentation: {indent-sequences: whatever}\n"
    "  truthy: {check-keys: false}\n"
)
FILES = [
    path
    for pattern in ("*.yaml", "*.yml")
    for path in sorted(DEPLOY.rglob(pattern))
    # Templates are no YAML until they are rendered; bootstraps are rendered, and read by Envoy.
    if not {"templates", "files"} & set(path.parts) and path.name != "envoy.yaml"
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_linter_finds_nothing(path: Path) -> None:
    found = linter.run(path.read_text(), RULES, str(path))
    assert [f"{one.line}: {one.desc}" for one in found] == []
