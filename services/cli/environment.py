"""The environment as services may see it."""

import os

CLIENT_VARIABLES = frozenset({"PENSTOCK_API_KEY"})
"""For this command alone: services would refuse them as settings that they don't know."""


def service_environment() -> dict[str, str]:
    """Returns this process's environment without what is only for this command."""
    variables = os.environ.items()  # noqa: TID251 - children inherit it; settings come from `load`
    return {name: value for name, value in variables if name not in CLIENT_VARIABLES}


def terminal_environment() -> dict[str, str]:
    """Returns what the terminal says of itself, among all else in the environment."""
    return dict(os.environ)  # noqa: TID251 - no settings: terminals tell only here what they are
