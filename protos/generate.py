"""Generates the Python code of every proto; `make protos` runs it.

The output goes to `protos/gen/python` and is committed: wheels carry it, and nobody needs protoc to
run Penstock. Proto root equals Python root, so generated imports work as they are. With `--check`
nothing is written: the command fails when the committed code is not what the protos generate.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
VENDOR = PROTOS / "vendor"
OUTPUT = PROTOS / "gen" / "python"

# Generated code depends on these versions: another one would rewrite every file. grpcio-tools
# 1.82 and later stamp their code protobuf 7, which the protobuf 6 runtime refuses.
TOOLS = {"grpcio-tools": "1.81.1", "mypy-protobuf": "5.1.0"}

# Imported by our protos, and shipped by no wheel that works with protobuf's own runtime.
VENDORED_SOURCES = ("buf/validate/validate.proto",)

PACKAGE = "penstock"
SERVICE_CONFIG = "service_config.json"
"""How clients are to retry, wait and balance; it ships with the code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Generates, or with `--check` compares; returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate Python code from the protos.")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail when the committed code differs from what the protos generate",
    )
    check: bool = parser.parse_args(arguments).check

    wrong = wrong_tools()
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1

    with tempfile.TemporaryDirectory(prefix="penstock-protos-") as folder:
        fresh = Path(folder)
        if not generate(fresh):
            return 1
        changes = differences(fresh, OUTPUT)
        if check:
            return report(changes)
        apply(changes, fresh, OUTPUT)
    print(f"{len(files(OUTPUT))} files in protos/gen/python, {len(changes)} changed")
    return 0


def wrong_tools() -> list[str]:
    """Names the generators whose installed version is not the pinned one."""
    complaints: list[str] = []
    for name, pinned in TOOLS.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != pinned:
            complaints.append(
                f"{name} must be {pinned} and is {installed}: uv pip install '{name}=={pinned}'"
            )
    return complaints


def generate(target: Path) -> bool:
    """Runs protoc into `target`; says whether it succeeded (protoc prints why not)."""
    own = sorted(
        path.relative_to(PROTOS).as_posix() for path in PROTOS.glob(f"{PACKAGE}/**/*.proto")
    )
    services = [name for name in own if "\nservice " in (PROTOS / name).read_text()]
    messages = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
    stubs = [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet,only_async:{target}"]
    if not run_protoc(messages, [*own, *VENDORED_SOURCES]) or not run_protoc(stubs, services):
        return False
    write_packages(target / PACKAGE)
    shutil.copyfile(PROTOS / PACKAGE / SERVICE_CONFIG, target / PACKAGE / SERVICE_CONFIG)
    return True


def run_protoc(outputs: Sequence[str], sources: Sequence[str]) -> bool:
    """Runs the protoc of grpcio-tools with mypy-protobuf's plugins."""
    if not sources:
        return True
    scripts = Path(sys.executable).parent
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),  # brings google/protobuf itself
        *(f"--proto_path={root}" for root in (PROTOS, VENDOR)),
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *outputs,
        *sources,
    ]
    return subprocess.run(command, check=False).returncode == 0


def write_packages(root: Path) -> None:
    """Makes every folder a regular, typed package, as import-linter and type checkers want it."""
    for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
        name = ".".join(folder.relative_to(root.parent).parts)
        (folder / "__init__.py").write_text(f'"""Generated from the protos of {name}."""\n')
    (root / "py.typed").touch()


def files(root: Path) -> set[Path]:
    """Lists the files below `root`, relative to it, without Python's caches."""
    return {
        path.relative_to(root)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(fresh: Path, committed: Path) -> dict[Path, str]:
    """Maps each file that is not the same on both sides to what is wrong with it."""
    new, old = files(fresh), files(committed)
    changes = dict.fromkeys(new - old, "missing") | dict.fromkeys(old - new, "stale")
    for name in new & old:
        if not filecmp.cmp(fresh / name, committed / name, shallow=False):
            changes[name] = "out of date"
    return dict(sorted(changes.items()))


def apply(changes: dict[Path, str], fresh: Path, target: Path) -> None:
    """Makes `target` equal to `fresh`; files that did not change keep their times."""
    for name, problem in changes.items():
        if problem == "stale":
            (target / name).unlink()
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, target / name)
    folders = sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True)
    for folder in folders:
        if all(child.name == "__pycache__" for child in folder.iterdir()):
            shutil.rmtree(folder)


def report(changes: dict[Path, str]) -> int:
    """Prints what differs; returns the exit status."""
    if not changes:
        return 0
    for name, problem in changes.items():
        print(f"protos/gen/python/{name}: {problem}", file=sys.stderr)
    print("Generated code differs from the protos: run `make protos`, commit.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
