"""PDF to text, page by page."""

from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError

from services.errors import InvalidArgument
from services.retrieval.parsing.formats import DATA_FIELD, shortened

MAX_PAGES = 10_000


def text_of_pdf(data: bytes, max_characters: int) -> tuple[str, str]:
    """Returns the text, with an empty line between pages, and the title.

    Raises InvalidArgument for what can't be read, or holds no text.
    """
    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise FileNotDecryptedError
        pages = _pages(reader, max_characters)
        title = shortened(_title(reader))
    except (FileNotDecryptedError, DependencyError) as error:
        raise _refused("The PDF is encrypted: save it without a password.") from error
    except LimitReachedError as error:
        raise _refused("The PDF unpacks to more than is read: split it.") from error
    except (MemoryError, InvalidArgument):
        raise
    except (PyPdfError, Exception) as error:  # a broken file breaks its reader in many ways
        raise _refused(
            "The PDF is broken and can't be read: save it anew, or send its text."
        ) from error
    text = "\n\n".join(filter(None, pages))
    if not text:
        raise _refused("The PDF holds no text; one of scanned pages needs text recognition first.")
    return text, title


def _pages(reader: PdfReader, max_characters: int) -> list[str]:
    if len(reader.pages) > MAX_PAGES:
        raise _refused(f"The PDF has more than {MAX_PAGES:,} pages: split it.")
    pages: list[str] = []
    left = max_characters
    for page in reader.pages:
        text = page.extract_text().strip()
        left -= len(text)
        if left < 0:
            raise _refused("The PDF holds more text than a document may: split it.")
        pages.append(text)
    return pages


def _title(reader: PdfReader) -> str:
    try:
        return (reader.metadata.title if reader.metadata else None) or ""
    except MemoryError:
        raise
    except Exception:  # the text counts: broken metadata is none
        return ""


def _refused(message: str) -> InvalidArgument:
    return InvalidArgument(message, field=DATA_FIELD)
