"""IDs and resource names of models."""

import re

from services.errors import InvalidArgument, ModelNotFound

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")
# Words with a meaning in the REST paths below `/models/`.
_WORDS = frozenset({"deploy"})
_SUFFIXES = ("/config", "/revisions", ":setAliases")


def not_found(name: str) -> ModelNotFound:
    """Makes the error for a name that no model has."""
    return ModelNotFound(f"There is no model {name[:300]!r}. ListModels names all.")


def check_text(text: str, field: str) -> str:
    """Returns the text, or raises `InvalidArgument` where databases can't keep it."""
    if "\0" in text:
        raise InvalidArgument("Text must not hold the character NUL.", field=field)
    return text


def check_model_id(model_id: str, field: str) -> str:
    """Returns the ID, or raises `InvalidArgument` where it can't name a model."""
    if not _ID.fullmatch(model_id):
        raise InvalidArgument(
            f"{model_id[:300]!r} is not a model ID: use at most 256 letters, digits and '._:/@+-', "
            "beginning with a letter or digit.",
            field=field,
        )
    if model_id in _WORDS:
        raise InvalidArgument(f"{model_id!r} is reserved. Choose another ID.", field=field)
    if model_id.endswith(_SUFFIXES) or "/revisions/" in model_id:
        raise InvalidArgument(
            f"{model_id!r} reads like the path of a method. Choose another ID.", field=field
        )
    if any(segment in ("", ".", "..") for segment in model_id.split("/")):
        raise InvalidArgument(
            f"{model_id!r} has an empty or dotted path segment. Choose another ID.", field=field
        )
    return model_id


def model_name(model_id: str) -> str:
    """Returns `models/{model}`."""
    return f"models/{model_id}"


def revision_name(model_id: str, number: int) -> str:
    """Returns `models/{model}/revisions/{revision}`."""
    return f"models/{model_id}/revisions/{number}"


def config_name(model_id: str) -> str:
    """Returns `models/{model}/config`."""
    return f"models/{model_id}/config"


def parse_model_name(name: str, field: str) -> str:
    """Returns the ID or alias in `models/{model}`."""
    prefix, _, model_id = name.partition("/")
    if prefix != "models" or not model_id:
        raise InvalidArgument(f"{name!r} is not a name like 'models/{{model}}'.", field=field)
    return check_text(model_id, field)


def parse_config_name(name: str, field: str) -> str:
    """Returns the ID or alias in `models/{model}/config` or `models/{model}`."""
    return parse_model_name(name.removesuffix("/config"), field)


def parse_revision_name(name: str, field: str) -> tuple[str, int]:
    """Returns ID and number in `models/{model}/revisions/{revision}`."""
    model, separator, number = name.rpartition("/revisions/")
    if not separator or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidArgument(
            f"{name!r} is not a name like 'models/{{model}}/revisions/{{revision}}'.", field=field
        )
    return parse_model_name(model, field), int(number)
