"""Ties a program to the life of its supervisor, then becomes that program.

Run as a script: `python -I -S launch.py SUPERVISOR_PID PROGRAM [ARGUMENT…]`. The kernel kills the
program when the supervisor dies without stopping it. Where the kernel can't, the program just runs.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Becomes the program that the arguments name."""
    supervisor = int(arguments[0])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before the kernel knew
            raise SystemExit(1)
    os.execv(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
