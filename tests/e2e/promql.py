"""Which metrics and labels an expression of PromQL asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser

ADDED = frozenset({"job", "instance"})
"""Labels that Prometheus itself adds."""

Asked = tuple[str, frozenset[str]]


def asked(expression: str) -> Iterator[Asked]:
    """Each metric, with the labels that are matched or that its series are put together by."""
    yield from _walk(promql_parser.parse(expression), frozenset())


def _walk(node: Any, labels: frozenset[str]) -> Iterator[Asked]:
    match node:
        case promql_parser.VectorSelector():
            own = {matcher.name for matcher in node.matchers.matchers}
            yield node.name, (labels | own) - ADDED
        case promql_parser.MatrixSelector():
            yield from _walk(node.vector_selector, labels)
        case promql_parser.AggregateExpr():
            by = node.modifier.labels if node.modifier is not None else ()
            yield from _walk(node.expr, frozenset(by))
        case promql_parser.BinaryExpr():
            yield from _walk(node.lhs, labels)
            yield from _walk(node.rhs, labels)
        case promql_parser.Call():
            for argument in node.args:
                yield from _walk(argument, labels)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            yield from _walk(node.expr, labels)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:
            raise AssertionError(f"what is {type(node).__name__}?")
