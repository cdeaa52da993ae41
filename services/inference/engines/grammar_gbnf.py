"""GBNF, llama.cpp's form of grammars: read, and written as grammars of llguidance.

llguidance parses lexemes, and takes the longest. So whatever is regular becomes one lexeme, as
large as can be: a grammar without recursion is one, and holds exactly. Where a recursive grammar
could read the same text as a shorter and a longer lexeme, only the longer reading is allowed.
"""

from collections.abc import Iterator, Mapping

from services.inference.engines.grammar_gbnf_reader import (
    Alternatives,
    Letters,
    Node,
    Reference,
    Repeat,
    Series,
    read_gbnf,
)
from services.inference.engines.grammar_schema import Refused

_LARGEST = 200_000
"""Most symbols once references and repetitions are written out."""


def gbnf_to_lark(text: str) -> str:
    """Writes a GBNF grammar in llguidance's language.

    Raises:
        Refused: it is broken or too large.
    """
    rules = {name: _without_tail_recursion(name, node) for name, node in read_gbnf(text).items()}
    _check_references(rules)
    order = _regular_rules(rules)
    _check_size(rules, order)
    return _Writer(rules, order).write()


def _without_tail_recursion(name: str, node: Node) -> Node:
    """`ws ::= ([ \\n] ws)?` is `[ \\n]*`: a rule that ends in itself becomes a repetition."""
    branches = list(_branches(node))
    loops: list[Node] = []
    ends: list[Node] = []
    for branch in branches:
        parts = branch.parts if isinstance(branch, Series) else (branch,)
        if parts and parts[-1] == Reference(name):
            loops.append(Series(parts[:-1]))
        else:
            ends.append(branch)
    if not loops or not ends or any(name in _references(part) for part in (*loops, *ends)):
        return node
    return Series((Repeat(Alternatives(tuple(loops)), 0, None), Alternatives(tuple(ends))))


def _branches(node: Node) -> Iterator[Node]:
    """What a node chooses from."""
    if isinstance(node, Alternatives):
        for branch in node.branches:
            yield from _branches(branch)
    elif isinstance(node, Repeat) and (node.least, node.most) == (0, 1):
        yield from _branches(node.node)
        yield Series(())
    elif isinstance(node, Series) and len(node.parts) == 1:
        yield from _branches(node.parts[0])
    else:
        yield node


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Series():
            return node.parts
        case Alternatives():
            return node.branches
        case Repeat():
            return (node.node,)
        case _:
            return ()


def _references(node: Node) -> set[str]:
    names: set[str] = set()
    open_nodes = [node]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, Reference):
            names.add(node.name)
        open_nodes += _children(node)
    return names


def _check_references(rules: Mapping[str, Node]) -> None:
    if "root" not in rules:
        raise Refused("has no rule named 'root'")
    for name, node in rules.items():
        if unknown := sorted(_references(node) - rules.keys()):
            raise Refused(f"rule '{name}': there is no rule '{unknown[0]}'")


def _regular_rules(rules: Mapping[str, Node]) -> list[str]:
    """Rules without recursion, each after those that it needs."""
    needs = {name: _references(node) for name, node in rules.items()}
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, needed in needs.items():
        for other in needed:
            users[other].append(name)
    order: list[str] = []
    ready = [name for name, needed in needs.items() if not needed]
    while ready:
        name = ready.pop()
        order.append(name)
        for user in users[name]:
            needs[user].discard(name)
            if not needs[user]:
                ready.append(user)
    return order


def _check_size(rules: Mapping[str, Node], order: list[str]) -> None:
    sizes: dict[str, int] = dict.fromkeys(rules, 1)
    for name in (*order, *(rules.keys() - set(order))):
        sizes[name] = _size(rules[name], sizes)
        if sizes[name] > _LARGEST:
            raise Refused(
                f"rule '{name}': is longer than {_LARGEST} symbols when its repetitions are "
                "written out"
            )


def _size(node: Node, sizes: Mapping[str, int]) -> int:
    if isinstance(node, Reference):
        return sizes[node.name]
    size = 1 + sum(_size(child, sizes) for child in _children(node))
    return size * max(node.least, node.most or 0, 1) if isinstance(node, Repeat) else size


class _Writer:
    """Writes rules in lower case and lexemes in upper case."""

    def __init__(self, rules: Mapping[str, Node], order: list[str]) -> None:
        self._rules = rules
        regular = set(order)
        self._regular = regular
        self._names = {
            name: f"L{place}" if name in regular else f"r{place}"
            for place, name in enumerate(rules)
        }
        self._order = order
        self._lines: list[str] = []
        self._lexemes: dict[str, str] = {}

    def write(self) -> str:
        for name in self._order:
            self._lines.append(f"{self._names[name]}: {self._write(self._rules[name])}")
        for name, node in self._rules.items():
            if name not in self._regular:
                self._lines.append(f"{self._names[name]}: {self._rule(node)}")
        start = f"start: {self._names['root']}"
        lexemes = [f"{name}: {text}" for text, name in self._lexemes.items()]
        return "\n".join([start, *self._lines, *lexemes, ""])

    def _is_regular(self, node: Node) -> bool:
        return _references(node) <= self._regular

    def _rule(self, node: Node) -> str:
        """A node of a recursive rule: its regular runs become lexemes."""
        if self._is_regular(node):
            return self._lexeme(node)
        match node:
            case Alternatives():
                return "(" + " | ".join(self._rule(branch) for branch in node.branches) + ")"
            case Repeat():
                return f"({self._rule(node.node)}){node.suffix}"
            case Series():
                return " ".join(self._runs(node))
            case _:
                return self._write(node)

    def _runs(self, series: Series) -> Iterator[str]:
        run: list[Node] = []
        for part in series.parts:
            if self._is_regular(part):
                run.append(part)
                continue
            if run:
                yield self._lexeme(Series(tuple(run)))
                run = []
            yield self._rule(part)
        if run:
            yield self._lexeme(Series(tuple(run)))

    def _lexeme(self, node: Node) -> str:
        text = self._write(node)
        return self._lexemes.setdefault(text, f"T{len(self._lexemes)}")

    def _write(self, node: Node) -> str:
        match node:
            case Reference():
                return self._names[node.name]
            case Letters():
                return f"/{node.pattern}/"
            case Series():
                return "(" + " ".join(map(self._write, node.parts)) + ")" if node.parts else '""'
            case Alternatives():
                return "(" + " | ".join(map(self._write, node.branches)) + ")"
            case Repeat():
                return f"({self._write(node.node)}){node.suffix}"
