"""Forms: texts, files, and all the ways in which a body can be broken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import bodies
from gateway.context import open_context
from gateway.errors import ClientGoneError, ProblemError
from gateway.multipart import Form, FormLimits, Upload, read_form

TYPE = "multipart/form-data; boundary=b"
LIMITS = FormLimits(body_bytes=10_000, memory_bytes=10_000, parts=4, text_bytes=100)


def part(name: str, data: bytes, more: str = "", headers: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n{headers}\r\n'
    return head.encode() + data + b"\r\n"


def whole(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


TEXT, FILE = part("t", b"text"), part("f", b"\x00\xff\r\n--", '; filename="a b.png"')


async def read(
    data: bytes | Iterable[bytes], content_type: str = TYPE, limits: FormLimits = LIMITS
) -> Form:
    pieces = [data] if isinstance(data, bytes) else list(data)
    messages = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces)}
        for n, piece in enumerate(pieces, start=1)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope: dict[str, Any] = {"headers": [(b"content-type", content_type.encode("utf-8"))]}
    open_context(scope)
    return await read_form(scope, receive, limits)


def shown(form: Form) -> list[tuple[str, str, bytes]]:
    with form:
        return [(file.name, file.filename, file.data()) for file in form.files]


async def test_texts_and_files() -> None:
    form = await read(whole(TEXT, FILE, part("t", "ß".encode())))
    assert form.texts == [("t", "text"), ("t", "ß")]
    (file,) = form.files
    assert file.size == 6
    assert shown(form) == [("f", "a b.png", b"\x00\xff\r\n--")]
    assert file.file.closed


@given(
    cuts=st.lists(st.integers(0, 200), max_size=12),
    data=st.binary(max_size=60) | st.just(b"\r\n--b\r\n--bx"),
)
@settings(deadline=None)
async def test_pieces_may_be_cut_anywhere(cuts: list[int], data: bytes) -> None:
    if b"\r\n--b" in b"\r\n" + data + b"\r\n":
        data = data.replace(b"b", b"c")
    body = whole(TEXT, part("f", data, '; filename="x"'), part("u", b"more"))
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    form = await read([body[a:b] for a, b in itertools.pairwise(edges)])
    assert form.texts == [("t", "text"), ("u", "more")]
    assert shown(form) == [("f", "x", data)]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Content-Type: image/png\r\n", "file"),
        ("Content-Type: application/octet-stream\r\n", "file"),
        ("Content-Type: text/plain\r\n", "text"),
        ("Content-Type: text/plain; charset=UTF-8\r\n", "text"),
        ("Content-Transfer-Encoding: binary\r\n", "text"),
        ("", "text"),
    ],
)
async def test_what_is_a_file(headers: str, expected: str) -> None:
    form = await read(whole(part("x", b"1", headers=headers)))
    with form:
        assert (len(form.files), len(form.texts)) == ((1, 0) if expected == "file" else (0, 1))


async def test_latin_texts_are_read_as_they_say() -> None:
    latin = part("x", b"\xdf", headers="Content-Type: text/plain; charset=ISO-8859-1\r\n")
    assert (await read(whole(latin))).texts == [("x", "ß")]


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        pytest.param("application/json", whole(TEXT), id="another type"),
        pytest.param("", whole(TEXT), id="no type"),
        pytest.param("multipart/mixed; boundary=b", whole(TEXT), id="not form-data"),
        pytest.param("multipart/form-data", whole(TEXT), id="no boundary"),
        pytest.param("multipart/form-data; boundary=", whole(TEXT), id="empty boundary"),
        pytest.param(f"multipart/form-data; boundary={'b' * 300}", whole(TEXT), id="long boundary"),
        pytest.param("multipart/form-data; boundary=ß", whole(TEXT), id="boundary not ASCII"),
        pytest.param("multipart/form-data; boundary=c", whole(TEXT), id="other boundary"),
        pytest.param(TYPE, b"", id="nothing"),
        pytest.param(TYPE, TEXT, id="no end"),
        pytest.param(TYPE, whole(TEXT)[:-4], id="end cut"),
        pytest.param(TYPE, TEXT[:30], id="headers cut"),
        pytest.param(TYPE, b"{}", id="json"),
        pytest.param(TYPE, b"--b\r\n\r\nx\r\n--b--\r\n", id="no headers"),
        pytest.param(TYPE, b"--b\r\nX: y\r\n\r\nx\r\n--b--\r\n", id="no disposition"),
        pytest.param(TYPE, whole(part("", b"x")), id="no name"),
        pytest.param(TYPE, whole(part("n" * 257, b"x")), id="long name"),
        pytest.param(TYPE, whole(TEXT.replace(b'"t"', b'"\xff"')), id="name not UTF-8"),
        pytest.param(
            TYPE, whole(TEXT.replace(b"form-data", b"attachment")), id="another disposition"
        ),
        pytest.param(TYPE, whole(TEXT.replace(b": form", b"; form")), id="header without colon"),
        pytest.param(TYPE, whole(part("x", b"", headers="A: b\r\n" * 500)), id="many headers"),
        pytest.param(TYPE, whole(part("x", b"", headers=f"A: {'b' * 9000}\r\n")), id="long header"),
        pytest.param(TYPE, whole(*[TEXT] * 5), id="many texts"),
        pytest.param(TYPE, whole(*[FILE] * 5), id="many files"),
        pytest.param(TYPE, whole(part("x", b"\xff")), id="text not UTF-8"),
        pytest.param(
            TYPE,
            whole(part("x", b"", headers="Content-Type: text/plain; charset=utf-16\r\n")),
            id="another charset",
        ),
        pytest.param(
            TYPE,
            whole(part("x", b"eA==", headers="Content-Transfer-Encoding: base64\r\n")),
            id="encoded",
        ),
        pytest.param(
            TYPE,
            whole(part("x", b"", headers="Content-Type: multipart/mixed; boundary=c\r\n")),
            id="nested",
        ),
    ],
)
async def test_broken_forms_are_400(content_type: str, data: bytes) -> None:
    with pytest.raises(ProblemError) as raised:
        await read(data, content_type)
    assert raised.value.problem.status == 400
    assert raised.value.problem.message


@pytest.mark.parametrize(
    "data", [whole(part("x", b"y" * 101)), whole(part("x", b"y" * 60), part("z", b"y" * 60))]
)
async def test_texts_beyond_their_limit_are_413(data: bytes) -> None:
    with pytest.raises(ProblemError) as raised:
        await read(data)
    assert raised.value.problem.status == 413
    assert raised.value.problem.param in ("x", "z")


async def test_bodies_beyond_their_limit_are_413_before_their_end() -> None:
    read_pieces = 0

    def pieces() -> Iterable[bytes]:
        nonlocal read_pieces
        for _ in range(10):
            read_pieces += 1
            yield part("f", b"x" * 3000, '; filename="x"')

    with pytest.raises(ProblemError) as raised:
        await read(pieces())
    assert raised.value.problem.status == 413


async def test_a_large_file_goes_to_disk() -> None:
    limits = FormLimits(body_bytes=10_000, memory_bytes=100)
    data = bytes(range(256)) * 20
    body = whole(part("f", data, '; filename="x"'))
    form = await read([body[n : n + 50] for n in range(0, len(body), 50)], limits=limits)
    assert form.files[0].file._rolled
    assert shown(form) == [("f", "x", data)]


async def test_a_client_that_leaves_half_way() -> None:
    scope: dict[str, Any] = {"headers": [(b"content-type", TYPE.encode())]}
    open_context(scope)
    messages: list[Any] = [{"type": "http.request", "body": FILE, "more_body": True}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    with pytest.raises(ClientGoneError):
        await read_form(scope, receive, LIMITS)


async def test_a_body_that_stalls_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_SILENCE_S", 0.01)
    scope: dict[str, Any] = {"headers": [(b"content-type", TYPE.encode())]}
    open_context(scope)
    messages: list[Any] = [{"type": "http.request", "body": FILE[:20], "more_body": True}]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait()

    with pytest.raises(ProblemError) as raised:
        await read_form(scope, receive, LIMITS)
    assert raised.value.problem.status == 408


async def test_files_are_freed_when_the_form_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Upload] = []
    init = Upload.__init__

    def noted(self: Upload, *arguments: Any) -> None:
        made.append(self)
        init(self, *arguments)

    monkeypatch.setattr(Upload, "__init__", noted)
    with pytest.raises(ProblemError):
        await read(FILE)
    (file,) = made
    assert file.file.closed


@given(data=st.binary(max_size=300))
@settings(deadline=None)
async def test_any_bytes_are_a_form_or_a_problem(data: bytes) -> None:
    for body in (data, b"--b\r\n" + data, TEXT + data + b"\r\n--b--"):
        problem: ProblemError | None = None
        try:
            shown(await read(body))
        except ProblemError as error:
            problem = error
        assert problem is None or problem.problem.status in (400, 413)
