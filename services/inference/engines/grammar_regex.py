"""How large regular expressions grow, before anything is made of them."""

import re

LARGEST = 20_000
"""Most steps that a regular expression may have once its repetitions are written out."""
_DEEPEST = 100

_COUNT = re.compile(r"\{(\d{1,7})(,(\d{0,7}))?\}")
_LONG_COUNT = re.compile(r"\{\d*,?\d{8,}")
_WIDE = frozenset("pPwWbB")
_WIDE_SIZE = 32
"""Steps that a class of Unicode's many letters counts for."""


def refuse_regex(text: str) -> str:
    """Why a regular expression is too much to follow; empty when it isn't.

    It is no parser: what is broken is for the library to say.
    """
    if _LONG_COUNT.search(text):
        return "has a repetition of more than 9999999 times"
    # Sizes of what stands in each open group: all of it, and its last item.
    groups: list[list[int]] = [[0, 0]]
    position = 0
    while position < len(text):
        character = text[position]
        size = 1
        if character == "\\":
            if position + 1 == len(text):
                return "ends in a lone backslash"
            size = _WIDE_SIZE if text[position + 1] in _WIDE else 1
            position += 1
        elif character == "[":
            position, size = _skip_class(text, position)
        elif character == "(":
            groups.append([0, 0])
            if len(groups) > _DEEPEST:
                return f"is nested over {_DEEPEST} levels"
            position += 1
            continue
        elif character == ")" and len(groups) > 1:
            size = groups.pop()[0]
        elif character == "{" and (count := _COUNT.match(text, position)):
            times = max(int(count[1]), int(count[3] or 0), 1)
            group = groups[-1]
            group[0] += group[1] * (times - 1)
            group[1] *= times
            position = count.end()
            if group[0] > LARGEST:
                break
            continue
        groups[-1][0] += size
        groups[-1][1] = size
        position += 1
    if max(group[0] for group in groups) > LARGEST:
        return f"is longer than {LARGEST} steps when its repetitions are written out"
    return ""


def _skip_class(text: str, start: int) -> tuple[int, int]:
    """Position of the bracket that closes a class (or the end), and what the class counts for."""
    size = 1
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            if text[position + 1 : position + 2] in _WIDE:
                size = _WIDE_SIZE
            position += 1
        elif character == "[":
            depth += 1
            first = position + 1 + (text[position + 1 : position + 2] == "^")
            if text[first : first + 1] == "]":  # a bracket in the first place is itself
                position = first
        elif character == "]":
            depth -= 1
            if depth == 0:
                break
        position += 1
    return position, size
