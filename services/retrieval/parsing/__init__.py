"""Takes the text out of documents: plain text, Markdown, HTML and PDF.

What may be hostile is read in processes of its own, bounded in time and memory.
"""

from services.retrieval.parsing.extractor import Extractor
from services.retrieval.parsing.formats import Extracted

__all__ = ["Extracted", "Extractor"]
