"""Starts processes with OpenVINO: `python -m … worker | tensors | export <arguments>`.

OpenVINO reports its use to its maker where its telemetry package is installed, and that comes with
it. Here nothing leaves the machine: the package is hidden before OpenVINO looks for it.
"""

import importlib
import sys
from typing import Any

PROCESSES = {
    "worker": "services.inference.engines.openvino_worker",
    "tensors": "services.inference.engines.openvino_tensor_worker",
    "export": "services.inference.engines.openvino_export",
}


def main(process: str, *arguments: str) -> int:
    """Runs a process; returns its exit status."""
    sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]
    module: Any = importlib.import_module(PROCESSES[process])
    return int(module.main(*arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
