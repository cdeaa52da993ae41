"""Runs benchmarks: `python -m benchmarks [edge] [--quick]`."""

import argparse
import asyncio
import contextlib
import signal
import sys
from dataclasses import replace

from benchmarks.edge.bench import QUICK, Options, run
from benchmarks.edge.contestants import TITLES
from benchmarks.edge.measure import SCENARIOS
from benchmarks.processes import ChildError


def main() -> int:
    """Runs one benchmark and prints its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", nargs="?", choices=["edge"], default="edge")
    parser.add_argument("--quick", action="store_true", help="one short round; rough figures")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario and edge (5)")
    parser.add_argument("--edge", action="append", choices=list(TITLES), help="only this edge")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[s.name for s in SCENARIOS],
        help="only this scenario",
    )
    parser.add_argument("--no-gates", action="store_true", help="leave the gates out")
    asked = parser.parse_args()
    options = QUICK if asked.quick else Options()
    options = replace(
        options,
        rounds=asked.rounds or options.rounds,
        only_edges=asked.edge or (),
        only_scenarios=asked.scenario or (),
        gates=not asked.no_gates,
    )
    try:
        print(asyncio.run(_until_told(options)))
    except ChildError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


async def _until_told(options: Options) -> str:
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(options, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    sys.exit(main())
