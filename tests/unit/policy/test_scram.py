"""SCRAM-SHA-256 by the examples of its RFC, and against an independent implementation."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramMechanism

from policy import scram
from policy.saslprep import saslprep

# RFC 7677, section 3.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = (
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_example_of_the_rfc() -> None:
    verifier = scram.derive("pencil", SALT)
    first = scram.parse_client_first(CLIENT_FIRST)
    assert (first.user, first.header) == ("user", "n,,")
    answer = scram.server_first(first.nonce + SERVER_NONCE, SALT, 4096)
    assert answer == SERVER_FIRST
    final = scram.parse_client_final(CLIENT_FINAL, first.header)
    assert final.nonce == first.nonce + SERVER_NONCE
    signed = scram.auth_message(first, answer, final)
    assert scram.proves(verifier, signed, final.proof)
    assert scram.server_final(verifier, signed) == SERVER_FINAL
    assert not scram.proves(scram.derive("pencils", SALT), signed, final.proof)


def test_verifiers_of_new_passwords() -> None:
    text = scram.new_verifier("pencil")
    verifier = scram.parse_verifier(text)
    assert verifier == scram.derive("pencil", verifier.salt, verifier.iterations)
    assert len(verifier.salt) == scram.SALT_BYTES
    again = scram.parse_verifier(scram.new_verifier("pencil", like=text))
    assert again == verifier
    other = scram.parse_verifier(scram.new_verifier("other", like=text))
    assert (other.salt, other.stored_key != verifier.stored_key) == (verifier.salt, True)
    assert scram.parse_verifier(scram.new_verifier("pencil")).salt != verifier.salt


@settings(max_examples=20, deadline=None)
@given(password=st.text(max_size=20).filter(lambda text: text.isascii() and text.isprintable()))
def test_passwords_are_derived_as_others_do(password: str) -> None:
    if not password:
        return
    mechanism = ScramMechanism("SCRAM-SHA-256")
    salt, stored, server, iterations = mechanism.make_auth_info(password, 4096, SALT)
    ours = scram.derive(password, bytes(salt), iterations)
    assert (ours.stored_key, ours.server_key) == (stored, server)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SCRAM-SHA-256$4095:c2FsdA==$eA==:eA==",
        "SCRAM-SHA-256$4096:c2FsdA==$eA==:eA==",
        "SCRAM-SHA-1$4096:c2FsdA==$eA==:eA==",
        "SCRAM-SHA-256$4096:c2FsdA==",
        "SCRAM-SHA-256$4096:a$" + "A" * 44 + ":" + "A" * 44,
    ],
)
def test_what_is_no_verifier(text: str) -> None:
    with pytest.raises(ValueError, match=r"SCRAM|base64"):
        scram.parse_verifier(text)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013, section 3.
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("größe", "größe"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u00ad", ""),
    ],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "\u0627a\u0628", "a\u0221", "\ue000", "\n"])
def test_what_saslprep_prohibits(text: str) -> None:
    with pytest.raises(ValueError, match="SASLprep"):
        saslprep(text)


NAME = st.text("abcöß=,\u00ad2C3D", min_size=1, max_size=8)


@given(NAME)
def test_names_are_read_as_they_were_meant(name: str) -> None:
    escaped = name.replace("=", "=3D").replace(",", "=2C")
    first = scram.parse_client_first(f"n,,n={escaped},r=x".encode())
    assert first.user == saslprep(name)


@given(st.binary(max_size=80))
def test_other_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for people, and any will do
        scram.parse_client_first(b"y,,n=" + data)  # there is no nonce
    with pytest.raises(ValueError):  # noqa: PT011
        scram.parse_client_final(data + b",p=AAAA", "n,,")  # a proof has 32 bytes
