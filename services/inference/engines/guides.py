"""What engines answer to forms that they did not make, or can't follow at all."""

from services.errors import InvalidArgument, UnsupportedParameter
from services.inference.engine import Grammar, GroupRequest


def without_guides(grammar: Grammar) -> UnsupportedParameter:
    """The refusal of a form by an engine without guided decoding."""
    return UnsupportedParameter(
        f"'{grammar.field}' is not supported by this model: its engine has no guided decoding.",
        field=grammar.field,
    )


def check_forms(group: GroupRequest, made: type | None) -> None:
    """Refuses forms that the engine did not make; `made` is the type of those that it makes."""
    for sequence in group.sequences:
        form = sequence.grammar
        if form is not None and (made is None or not isinstance(form, made)):
            raise InvalidArgument(
                "A form must be made by `compile` of the engine that is to follow it.",
                field="grammar",
            )
