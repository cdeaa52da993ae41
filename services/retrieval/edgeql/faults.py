"""Where a query is wrong, in words."""

from lark import Token

from services.errors import InvalidArgument

EXPRESSION_FIELD = "context.expression"
SUPPORTED = (
    "Supported are `Type`, `select Type` and "
    "`(select Type filter .property = <str>$value limit 10)`"
)


def place(token: Token) -> tuple[int, int]:
    """Returns the line and the column of a token, counted from 1."""
    return token.line or 1, token.column or 1


def fault_at(
    token: Token | tuple[int, int], message: str, *, field: str = EXPRESSION_FIELD
) -> InvalidArgument:
    """Returns the error for what stands at a token, or at a line and column."""
    line, column = token if isinstance(token, tuple) else place(token)
    return InvalidArgument(
        f"The query, line {line}, column {column}: {message}",
        field=field,
        metadata={"line": str(line), "column": str(column)},
    )
