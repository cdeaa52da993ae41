"""Makes the pydantic model that is equal to a msgspec schema: its fields, types, bounds, defaults.

Strict and deaf to unknown fields, as the schemas are.
"""

import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model

_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")


@cache
def twin(schema: type[msgspec.Struct]) -> type[BaseModel]:
    """Returns the model."""
    hints = get_type_hints(schema, include_extras=True)
    made: dict[str, Any] = {}
    for item in msgspec.structs.fields(schema):
        required = item.default is msgspec.NODEFAULT and item.default_factory is msgspec.NODEFAULT
        default = ... if required else None if item.default is msgspec.UNSET else item.default
        # With a name of its own: pydantic's models have attributes that fields may be called.
        made[f"its_{item.name}"] = (
            _type(hints[item.name]),
            Field(default, alias=item.encode_name),
        )
    config = ConfigDict(strict=True, extra="ignore")
    return create_model(schema.__name__, __config__=config, **made)


def _type(hint: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = {
            name: bound
            for meta in arguments[1:]
            for name in _BOUNDS
            if (bound := getattr(meta, name)) is not None
        }
        return Annotated[_type(arguments[0]), Field(**bounds)]
    if origin in (Union, types.UnionType):
        union: Any = Union
        return union[tuple(_type(each) for each in arguments if each is not msgspec.UnsetType)]
    if origin in (list, dict):
        collection: Any = origin
        return collection[tuple(_type(each) for each in arguments)]
    if hint is msgspec.Raw:
        return Any
    if origin is Literal or hint in (str, int, float, bool, type(None)):
        return hint
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return twin(hint)
    raise TypeError(f"a schema has {hint}, which no model was made of yet")
