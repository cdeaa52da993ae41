"""Brings up the loopback device of a new network, then becomes Python with the arguments given.

unshare --net ... python -m tests.ray.loopback -m pytest tests/ray
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP) + bytes(14))
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
