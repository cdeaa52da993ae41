"""Fields of the services, spelled as the dialect spells them."""

import re
from collections.abc import Mapping
from dataclasses import replace

from gateway.errors import Problem

SHOWN = 64
"""Most characters of what a caller named that an answer repeats."""


def respelled(problem: Problem, fields: Mapping[str, str]) -> Problem:
    """Spells the field of a problem, and the fields that its message names.

    A field that is spelled as nothing is not one of the request's body.
    """
    param = problem.param
    message = problem.message
    for name, spelled in fields.items():
        if not spelled:
            continue
        word = re.escape(name)
        if "." in name:
            mention = re.compile(rf"(?<![\w.\[]){word}(?![\w\[]|\.\w)")
        elif name == param:  # elsewhere, a plain word may stand for what it means
            mention = re.compile(rf"(?<=['`]){word}(?=['`])")
        else:
            continue
        message = mention.sub(lambda _, spelled=spelled: spelled, message)
    if param and param in fields:
        param = fields[param] or None
    return replace(problem, param=param, message=message)
