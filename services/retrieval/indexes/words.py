"""Words of texts and queries, the same for every database.

Databases split texts by rules of their own, which differ with product, version and locale. So texts
are split here, and databases only index the words. Letters lose case and accents; Chinese and
Japanese characters are words each, for their texts have no blanks; there is no stemming and there
are no stop words, since languages are mixed.
"""

import re
import unicodedata

MOST_QUERY_WORDS = 64
"""Words of a query that are looked for: its first different ones."""
_LONGEST = 256
"""Characters of a word that count."""

_ACCENTS = re.compile("[\u0300-\u036f]")
# Kana and Han.
_SINGLE = "\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
# Scripts whose words hold marks that are no letters: Indic, Thai, Lao, Tibetan, Burmese, Khmer.
_MARKED = (
    "\u0900-\u0963\u0966-\u0dff\u0e01-\u0e3a\u0e40-\u0eff\u0f71-\u0fbc\u1000-\u1049\u1780-\u17d3"
)
_WORD = re.compile(f"[{_SINGLE}]|(?:[^\\W_{_SINGLE}]|[{_MARKED}])+")


def words(text: str) -> list[str]:
    """Returns the words of a text, in its order."""
    if text.isascii():
        folded = text.lower()
    else:
        folded = unicodedata.normalize("NFKD", text).casefold()
        folded = unicodedata.normalize("NFC", _ACCENTS.sub("", folded))
    return [word[:_LONGEST] for word in _WORD.findall(folded)]


def query_words(text: str) -> list[str]:
    """Returns the different words of a query, at most `MOST_QUERY_WORDS`."""
    return list(dict.fromkeys(words(text)))[:MOST_QUERY_WORDS]
