"""Runs benchmarks: `python -m benchmarks [NAME] [--quick]`; all of them without a name."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import benchmarks.edge.bench as edge
import benchmarks.embedding.bench as embedding
import benchmarks.engine.bench as engine
import benchmarks.image.bench as image
import benchmarks.policy.bench as policy
import benchmarks.retrieval.bench as retrieval
import benchmarks.schemas.bench as schemas
import benchmarks.start.bench as start
import benchmarks.training.bench as training
import benchmarks.tritonserver.bench as tritonserver
from benchmarks.edge.contestants import TITLES as EDGES
from benchmarks.edge.measure import SCENARIOS
from benchmarks.processes import ChildError

Run = Callable[[], Awaitable[str]]


def main() -> int:
    """Runs benchmarks and prints their reports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "benchmark",
        nargs="?",
        choices=[
            "edge",
            "engine",
            "embedding",
            "retrieval",
            "image",
            "training",
            "policy",
            "triton",
            "start",
            "schemas",
        ],
    )
    parser.add_argument("--quick", action="store_true", help="one short round; rough figures")
    parser.add_argument(
        "--rounds",
        type=int,
        help="rounds of each scenario (edge, start: 5, policy: 15, schemas: 30, others: 3)",
    )
    parser.add_argument("--edge", action="append", choices=list(EDGES), help="only this edge")
    parser.add_argument(
        "--engine", action="append", choices=list(engine.TITLES), help="only this engine"
    )
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[s.name for s in SCENARIOS],
        help="only this scenario of the edge",
    )
    parser.add_argument("--no-gates", action="store_true", help="leave the edge's gates out")
    asked = parser.parse_args()
    try:
        for run in _chosen(asked):
            print(asyncio.run(_until_told(run)), end="\n\n")
    except ChildError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


def _chosen(asked: argparse.Namespace) -> list[Run]:
    edges = edge.QUICK if asked.quick else edge.Options()
    edges = replace(
        edges,
        rounds=asked.rounds or edges.rounds,
        only_edges=asked.edge or (),
        only_scenarios=asked.scenario or (),
        gates=not asked.no_gates,
    )
    engines = engine.QUICK if asked.quick else engine.Options()
    engines = replace(engines, rounds=asked.rounds or engines.rounds, only=asked.engine or ())
    embeddings = embedding.QUICK if asked.quick else embedding.Options()
    embeddings = replace(embeddings, rounds=asked.rounds or embeddings.rounds)
    images = image.QUICK if asked.quick else image.Options()
    images = replace(images, rounds=asked.rounds or images.rounds)
    trainings = training.QUICK if asked.quick else training.Options()
    trainings = replace(trainings, rounds=asked.rounds or trainings.rounds)
    policies = policy.QUICK if asked.quick else policy.Options()
    policies = replace(policies, rounds=asked.rounds or policies.rounds)
    tritons = tritonserver.QUICK if asked.quick else tritonserver.Options()
    tritons = replace(tritons, rounds=asked.rounds or tritons.rounds)
    begun = start.QUICK if asked.quick else start.Options()
    begun = replace(begun, rounds=asked.rounds or begun.rounds)
    decoded = schemas.QUICK if asked.quick else schemas.Options()
    decoded = replace(decoded, rounds=asked.rounds or decoded.rounds)
    runs: dict[str, Run] = {
        "edge": lambda: edge.run(edges, _say),
        "engine": lambda: engine.run(engines, _say),
        "embedding": lambda: embedding.run(embeddings, _say),
        "retrieval": lambda: retrieval.run(
            retrieval.QUICK if asked.quick else retrieval.Options(), _say
        ),
        "image": lambda: image.run(images, _say),
        "training": lambda: training.run(trainings, _say),
        "policy": lambda: policy.run(policies, _say),
        "triton": lambda: tritonserver.run(tritons, _say),
        "start": lambda: start.run(begun, _say),
        "schemas": lambda: schemas.run(decoded, _say),
    }
    return [run for name, run in runs.items() if asked.benchmark in (None, name)]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def _until_told(run: Run) -> str:
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run()


if __name__ == "__main__":
    sys.exit(main())
