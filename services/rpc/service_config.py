"""How channels retry, wait and balance: the service config that ships with the protos."""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any


def service_config(idempotent: Sequence[str] = ()) -> str:
    """Returns it as JSON. `idempotent` names more methods that may be repeated, as
    `package.Service/Method`, or `package.Service` for all of a service."""
    text = _shipped()
    if not idempotent:
        return text
    config = json.loads(text)
    methods: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in config["methodConfig"]:
        for name in entry["name"]:
            rest = {key: value for key, value in entry.items() if key != "name"}
            methods[name["service"], name.get("method", "")] = rest
    policy = next(rest["retryPolicy"] for rest in methods.values() if "retryPolicy" in rest)
    for name in idempotent:
        service, _, method = name.strip("/").partition("/")
        methods.setdefault((service, method), {})["retryPolicy"] = policy
    config["methodConfig"] = [
        {"name": [{"service": service, "method": method} if method else {"service": service}]}
        | rest
        for (service, method), rest in methods.items()
    ]
    return json.dumps(config)


@cache
def _shipped() -> str:
    return resources.files("penstock").joinpath("service_config.json").read_text("utf-8")
