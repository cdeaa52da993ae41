"""Helm in a process of its own, for Go brings its own runtime: reads sets of values as JSON from
stdin, writes what the chart makes of each."""

import json
import sys
from pathlib import Path

import helm_python as helm

CHART = Path(__file__).resolve().parents[3] / "deploy" / "helm" / "penstock"


def main() -> None:
    answers: list[dict[str, object]] = []
    for case in json.load(sys.stdin):
        with helm.Chart.load(str(CHART)) as chart:
            try:
                files = chart.render(case["values"], name=case["release"], namespace="prod")
                answers.append({"files": files})
            except helm.HelmError as error:
                answers.append({"error": str(error)})
    json.dump({"renders": answers, "lint": helm.lint(str(CHART))}, sys.stdout)


if __name__ == "__main__":
    main()
