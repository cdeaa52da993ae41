"""Filters as conditions in SQL."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, false, func, not_, or_, true

from services.errors import InvalidArgument
from services.retrieval.records import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Not,
    Operator,
    PropertySchema,
    PropertyType,
)
from services.retrieval.stores.comparisons import ORDERED, OWN, Meaning, meaning
from services.retrieval.stores.properties import KEYED, kept_name
from services.retrieval.stores.tables import DOCUMENTS
from services.retrieval.stores.values import (
    Condition,
    EmbeddedJson,
    EmbeddedText,
    PostgresJson,
    PostgresText,
    Value,
)

_MOST_COMPARISONS = 400
"""Databases limit how large an expression may be."""


class Conditions:
    """Turns filters of one collection into conditions on DOCUMENTS."""

    def __init__(self, schemas: Sequence[PropertySchema], *, postgres: bool) -> None:
        self._kinds: Mapping[str, PropertyType] = {schema.name: schema.type for schema in schemas}
        self._text: Any = PostgresText if postgres else EmbeddedText
        self._json: Any = PostgresJson if postgres else EmbeddedJson
        self._left = _MOST_COMPARISONS

    def of(self, filter: Filter, field: str = "filter") -> Condition:
        """Returns the condition, which is never NULL.

        Raises:
            InvalidArgument: a property is compared with what it can't be.
        """
        match filter:
            case Comparison():
                return self._comparison(filter, f"{field}.comparison")
            case AllOf():
                return and_(true(), *self._parts(filter.filters, f"{field}.all_of"))
            case AnyOf():
                return or_(false(), *self._parts(filter.filters, f"{field}.any_of"))
            case Not():
                return not_(self.of(filter.filter, f"{field}.not"))

    def _parts(self, filters: Sequence[Filter], field: str) -> list[Condition]:
        return [self.of(part, f"{field}.filters[{at}]") for at, part in enumerate(filters)]

    def _comparison(self, comparison: Comparison, field: str) -> Condition:
        self._left -= 1
        if self._left < 0:
            raise InvalidArgument(
                f"'{field}': a filter has at most {_MOST_COMPARISONS} comparisons; IN takes a "
                "list of values.",
                field=field,
            )
        name = comparison.property
        kind = PropertyType.STRING if name in OWN else self._kinds.get(name)
        checked = meaning(comparison, kind, field)
        met = func.coalesce(
            or_(*(_met(value, checked) for value in self._values(checked))), false()
        )
        negated = checked.operator in {Operator.NOT_EQUAL, Operator.NOT_IN}
        return not_(met) if negated else met

    def _values(self, checked: Meaning) -> list[Value]:
        """Returns where the value may be. More than one has it never."""
        if checked.property in OWN:
            return [self._text(DOCUMENTS.c[checked.property])]
        name = kept_name(checked.property)
        plain = self._json(DOCUMENTS.c.properties, name)
        match checked.kind:
            case PropertyType.UUID | PropertyType.DATETIME:
                return [self._json(DOCUMENTS.c["keys"], KEYED[checked.kind], name)]
            case PropertyType.INT64:
                return [plain, self._json(DOCUMENTS.c["keys"], KEYED[checked.kind], name)]
            case _:
                return [plain]


def _met(value: Value, checked: Meaning) -> Condition:
    match checked.operator:
        case Operator.EQUAL | Operator.NOT_EQUAL | Operator.IN | Operator.NOT_IN:
            return value.one_of(checked.values)
        case Operator.LIKE | Operator.ILIKE:
            any_case = checked.operator is Operator.ILIKE
            return value.like(str(checked.values[0]), any_case=any_case)
        case Operator.CONTAINS:
            return value.contains(checked.values[0])
        case _:
            assert checked.operator in ORDERED
            wanted = checked.values[0]
            if isinstance(wanted, bool) or not isinstance(wanted, int | float | str):
                return false()
            return value.ordered(checked.operator, wanted)
