"""HTML to text: what a reader sees, with headings, lists, tables and code kept apart."""

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.retrieval.parsing.formats import shortened
from services.retrieval.parsing.plain_text import codec_of

DROPPED = frozenset({"script", "style", "template", "noscript", "head"})
_BREAKS = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "ul", "ol", "dl"), 2),
    **dict.fromkeys(("table", "blockquote", "article", "section", "main", "figure", "hr"), 2),
    **dict.fromkeys(("aside", "header", "footer", "nav", "form", "fieldset", "details"), 2),
    **dict.fromkeys(("div", "li", "dt", "dd", "tr", "caption", "figcaption", "address"), 1),
    **dict.fromkeys(("body", "option", "summary", "legend"), 1),
}
"""Line breaks around each block."""
_PREFIXES = {"li": "- ", **{f"h{level}": "#" * level + " " for level in range(1, 7)}}
_SPACES = re.compile(r"[ \t\n\r\f]+")
_META_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def text_of_html(html: str) -> tuple[str, str]:
    """Returns the text and the title."""
    document = LexborHTMLParser(html)
    root = document.root
    if root is None:
        return "", ""
    title = document.css_first("head > title") or document.css_first("h1")
    found = shortened(title.text()) if title else ""
    writer = _Writer()
    _walk(root, writer)
    return writer.text, found


def charset_of_html(content: bytes) -> str:
    """Returns the charset that the first bytes name, as far as it is known; else empty."""
    if found := _META_CHARSET.search(content[:1024]):
        return codec_of(found[1].decode("ascii", "replace")) or ""
    return ""


@dataclass
class _Writer:
    """Joins pieces of text, with spaces and line breaks as a browser would put them."""

    pieces: list[str] = field(default_factory=list[str])
    breaks: int = 0
    has_space: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def flow(self, text: str) -> None:
        """Adds text in which blanks count as one space."""
        text = _SPACES.sub(" ", text)
        if text.startswith(" "):
            self.has_space = True
        if core := text.strip(" "):
            self.put(core)
            self.has_space = text.endswith(" ")

    def put(self, text: str) -> None:
        """Adds text as it is, behind the space or line breaks that are due."""
        if not self.pieces:
            pass
        elif self.breaks:
            self.pieces.append("\n" * self.breaks)
        elif self.has_space:
            self.pieces.append(" ")
        self.breaks, self.has_space = 0, False
        self.pieces.append(text)

    def strip_line_ends(self) -> None:
        """Takes back the line breaks that were put last."""
        while self.pieces:
            if last := self.pieces.pop().rstrip("\n"):
                self.pieces.append(last)
                return

    def end_line(self, breaks: int) -> None:
        """Puts at least so many line breaks in front of what comes next."""
        self.breaks = max(self.breaks, breaks)
        self.has_space = False


@dataclass
class _Place:
    """Where the walk is; kept by hand, since documents may be nested deeper than calls can be."""

    pre: int = 0
    prefix: str = ""


def _walk(root: LexborNode, writer: _Writer) -> None:
    place = _Place()
    stack: list[tuple[LexborNode, bool]] = [(root, True)]
    while stack:
        node, enters = stack.pop()
        tag = node.tag or ""
        if not enters:
            _leave(tag, place, writer)
            if node.next is not None:
                stack.append((node.next, True))
            continue
        if tag == "-text":
            _text(node, place, writer)
        elif tag not in DROPPED and not tag.startswith(("-", "!")):
            _enter(tag, place, writer)
            stack.append((node, False))
            if node.first_child is not None:
                stack.append((node.first_child, True))
            continue
        if node.next is not None:
            stack.append((node.next, True))


def _text(node: LexborNode, place: _Place, writer: _Writer) -> None:
    text = node.text_content or ""
    if place.pre:
        if text:
            writer.put(place.prefix + text)
            place.prefix = ""
        return
    if place.prefix and text.strip():
        writer.put(place.prefix)
        place.prefix = ""
        text = text.lstrip()
    writer.flow(text)


def _enter(tag: str, place: _Place, writer: _Writer) -> None:
    if tag == "br":
        writer.end_line(min(writer.breaks + 1, 2))
    elif breaks := _BREAKS.get(tag):
        if not place.prefix:  # as in <li><p>
            writer.end_line(breaks)
        if tag == "pre":
            place.pre += 1
    elif tag in {"td", "th"} and not writer.breaks and writer.pieces:
        writer.has_space = True
        writer.put("|")
        writer.has_space = True
    if tag in _PREFIXES:
        place.prefix = _PREFIXES[tag]


def _leave(tag: str, place: _Place, writer: _Writer) -> None:
    if breaks := _BREAKS.get(tag):
        if tag == "pre":
            place.pre -= 1
            writer.strip_line_ends()
        writer.end_line(breaks)
        if tag in _PREFIXES:
            place.prefix = ""
