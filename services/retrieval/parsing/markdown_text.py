"""Markdown to text: by way of HTML, since Markdown may hold HTML anywhere."""

import re

from markdown_it import MarkdownIt

from services.errors import InvalidArgument
from services.retrieval.parsing.formats import DATA_FIELD, shortened
from services.retrieval.parsing.html_text import text_of_html

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n((?:(?!---|\.\.\.).*\n)*)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE)
_MAX_NESTING = 100
_RENDERER = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(
    ["table", "strikethrough"]
)


def text_of_markdown(markdown: str) -> tuple[str, str]:
    """Returns the text, with headings marked by `#` and code as it is, and the title.

    A block of metadata in front is kept as it is; its `title` is the title. Raises InvalidArgument
    for lists and quotes that are nested too deep.
    """
    front = _FRONT_MATTER.match(markdown)
    text, title = text_of_html(_rendered(markdown[front.end() :] if front else markdown))
    if front is None:
        return text, title
    if named := _FRONT_TITLE.search(front[1]):
        title = shortened(named[1].strip().strip("\"'"))
    return "\n\n".join(filter(None, (front[1].strip(), text))), title


def _rendered(markdown: str) -> str:
    tokens = _RENDERER.parse(markdown)
    if any(token.level >= _MAX_NESTING - 1 for token in tokens):  # what lies deeper is left out
        raise InvalidArgument(
            f"The Markdown's lists and quotes are nested more than {_MAX_NESTING // 2} deep.",
            field=DATA_FIELD,
        )
    return _RENDERER.renderer.render(tokens, _RENDERER.options, {})
