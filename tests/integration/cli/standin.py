"""A tiny stand-in for a service: says that it is ready, and then misbehaves as it is told.

python standin.py NAME LOG [--ignore-term] [--die-after S] [--fail CODE] [--silent] …
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("log")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--die-after", type=float)
    parser.add_argument("--fail", type=int)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--linger", type=float, default=0.0)
    options = parser.parse_args()

    def note(word: str) -> None:
        with open(options.log, "a", encoding="utf-8") as log:
            log.write(f"{options.name} {word} {os.getpid()}\n")

    note("start")
    if options.fail is not None:
        print("this can't work", file=sys.stderr, flush=True)
        sys.exit(options.fail)

    def on_term(*_: object) -> None:
        note("term")
        if options.ignore_term:
            return
        time.sleep(options.linger)
        note("end")
        os._exit(0)

    signal.signal(signal.SIGTERM, on_term)
    if options.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(options.log, "a", encoding="utf-8") as log:
            log.write(f"{options.name} child {child.pid}\n")
    if not options.silent:
        print(json.dumps({"service": options.name, "address": "127.0.0.1:1"}), flush=True)
    print("a line on stdout", flush=True)
    print("WARNING a line on stderr", file=sys.stderr, flush=True)
    if options.die_after is not None:
        time.sleep(options.die_after)
        sys.exit(3)
    while True:
        time.sleep(60)


main()
