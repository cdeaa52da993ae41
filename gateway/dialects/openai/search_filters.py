"""Filters of searches, translated into those of the retrieval service. No I/O."""

import re

from google.protobuf.struct_pb2 import Value
from penstock.retrieval.v1 import search_pb2

from gateway.dialects.openai import vector_store_schema as schema
from gateway.errors import invalid
from gateway.validation import missing

_DEEPEST_FILTER = 16
_LARGEST_EXACT = 2**53
_LARGEST_WHOLE = 2**63

_OPERATORS = {
    "eq": search_pb2.Comparison.OPERATOR_EQUAL,
    "ne": search_pb2.Comparison.OPERATOR_NOT_EQUAL,
    "gt": search_pb2.Comparison.OPERATOR_GREATER,
    "gte": search_pb2.Comparison.OPERATOR_GREATER_OR_EQUAL,
    "lt": search_pb2.Comparison.OPERATOR_LESS,
    "lte": search_pb2.Comparison.OPERATOR_LESS_OR_EQUAL,
    "in": search_pb2.Comparison.OPERATOR_IN,
    "nin": search_pb2.Comparison.OPERATOR_NOT_IN,
}


def to_filter(given: schema.SearchFilter, path: str, depth: int = 1) -> search_pb2.Filter:
    """Translates a filter that stands at `path` of the request.

    Raises:
        ProblemError: something is missing, or of the wrong type.
    """
    if depth > _DEEPEST_FILTER:
        raise invalid(f"Invalid '{path}': nested more than {_DEEPEST_FILTER} deep.", path)
    if given.type in ("and", "or"):
        if given.filters is None:
            raise missing(f"{path}.filters")
        inner = search_pb2.FilterList(
            filters=[
                to_filter(item, f"{path}.filters[{number}]", depth + 1)
                for number, item in enumerate(given.filters)
            ]
        )
        if given.type == "and":
            return search_pb2.Filter(all_of=inner)
        return search_pb2.Filter(any_of=inner)
    if given.key is None:
        raise missing(f"{path}.key")
    if given.value is None:
        raise missing(f"{path}.value")
    many = isinstance(given.value, list)
    if many != (given.type in ("in", "nin")):
        expected = "a string, number or boolean" if many else "an array"
        raise invalid(
            f"Invalid type for '{path}.value': '{given.type}' compares with {expected}.",
            f"{path}.value",
            "invalid_type",
        )
    comparison = search_pb2.Comparison(
        property=given.key,
        operator=_OPERATORS[given.type],
        value=to_value(given.value, f"{path}.value"),
    )
    return search_pb2.Filter(comparison=comparison)


def to_value(given: schema.Scalar | list[schema.Scalar], path: str) -> Value:
    """Translates what an attribute is, or is compared with.

    Raises:
        ProblemError: a whole number is too large.
    """
    value = Value()
    if isinstance(given, list):
        items = [to_value(item, f"{path}[{number}]") for number, item in enumerate(given)]
        value.list_value.values.extend(items)
    elif isinstance(given, bool):
        value.bool_value = given
    elif isinstance(given, str):
        value.string_value = given
    elif isinstance(given, float) or abs(given) <= _LARGEST_EXACT:
        value.number_value = given
    elif abs(given) <= _LARGEST_WHOLE:
        value.string_value = str(given)  # as properties of 64 bits are told apart
    else:
        raise invalid(f"Invalid '{path}': a whole number has at most 64 bits.", path)
    return value


def spelled(match: re.Match[str]) -> str:
    """Spells the path of a filter, whose part after `filter` is the first group."""
    path = re.sub(r"\.(all_of|any_of|comparison)\b", "", match[1])
    path = re.sub(r"\.property$", ".key", path)
    return "filters" + re.sub(r"\.operator$", ".type", path)
