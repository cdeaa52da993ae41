"""Text of tokens, whole and as it comes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from services.errors import InvalidArgument
from services.inference.engine import TextCodec
from services.inference.engines.echo_text import EchoText
from services.inference.engines.hf_text import HFText
from tests.conformance.tiny_models import byte_level_tokenizer


def byte_level() -> HFText:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return HFText(tokenizer, vocabulary_size=400)


def sentencepiece() -> HFText:
    """As Llama 2 and Mistral do it: `▁` for spaces, bytes for what has no token."""
    words = ["▁", "▁the", "▁fox", "th", "e", "fox", "é", "▁😀", ".", "a", "▁a"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for token in [f"<0x{byte:02X}>" for byte in range(256)] + words:
        vocabulary[token] = len(vocabulary)
    model = models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return HFText(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    )


def wordpiece() -> HFText:
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "fox", "##es", "run", "##ning", ".", "é"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return HFText(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
    )


CODECS: dict[str, TextCodec] = {
    "byte-level": byte_level(),
    "sentencepiece": sentencepiece(),
    "wordpiece": wordpiece(),
    "echo": EchoText(),
}
SIZES = {"byte-level": 400, "sentencepiece": 270, "wordpiece": 10, "echo": 259}
SPECIAL = {
    "byte-level": {0, 1, 2},
    "sentencepiece": {0, 1, 2},
    "wordpiece": {0, 1, 2},
    "echo": {256, 257, 258},
}


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_streamed_text_is_the_decoded_text(name: str, data: st.DataObject) -> None:
    """For any tokens, also such that split or break characters; special ones give nothing."""
    codec = CODECS[name]
    ids = data.draw(st.lists(st.integers(0, SIZES[name] - 1), max_size=30))
    decoder = codec.decoder()
    parts = [decoder.feed(token) for token in ids]
    streamed = "".join(parts) + decoder.flush()
    assert streamed == codec.decode([token for token in ids if token not in SPECIAL[name]])
    assert decoder.flush() == ""


KEPT = {
    "byte-level": "<|im_start|>",
    "sentencepiece": "</s>",
    "wordpiece": "[SEP]",
    "echo": "<|im_end|>",
}


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_special_tokens_that_are_kept_come_through(name: str, data: st.DataObject) -> None:
    codec = CODECS[name]
    [kept] = [id for id in SPECIAL[name] if codec.piece(id).strip() == KEPT[name].encode()]
    ids = data.draw(st.lists(st.sampled_from([*SPECIAL[name], 3, 4]), max_size=12))
    decoder = codec.decoder(keep=frozenset({KEPT[name], "no such token"}))
    streamed = "".join(map(decoder.feed, ids)) + decoder.flush()
    dropped = SPECIAL[name] - {kept}
    assert streamed == codec.decode([token for token in ids if token not in dropped])


@pytest.mark.parametrize("name", ["byte-level", "echo"])
@given(text=st.text(max_size=40).filter(lambda text: "<|" not in text))
@settings(max_examples=200, deadline=None)
def test_any_text_survives(name: str, text: str) -> None:
    codec = CODECS[name]
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert b"".join(map(codec.piece, ids)).decode() == text
    decoder = codec.decoder()
    parts = [decoder.feed(token) for token in ids]
    assert "\ufffd" not in "".join(parts).replace(text, "") or "\ufffd" in text
    assert "".join(parts) == text, "a complete text needs no flush"


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece", "wordpiece"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_text_is_what_the_tokenizer_says(name: str, data: st.DataObject) -> None:
    codec = CODECS[name]
    assert isinstance(codec, HFText)
    text = data.draw(st.text(alphabet="the fox.é 😀run", max_size=20))
    ids = [token for token in codec.encode(text) if token not in SPECIAL[name]]
    assert codec.decode(ids) == codec._tokenizer.decode(ids, skip_special_tokens=True)


def test_spaces_of_sentencepiece() -> None:
    codec = CODECS["sentencepiece"]
    [fox] = [t for t in range(270) if codec.piece(t) == b" fox"]
    assert codec.decode([fox, fox]) == "fox fox"
    assert codec.decoder().feed(fox) == "fox"
    assert codec.decoder([1]).feed(fox) == "fox"
    assert codec.decoder([1, fox]).feed(fox) == " fox"
    assert codec.piece(3 + 0xE2) == b"\xe2"


def test_wordpiece_follows_its_prompt() -> None:
    codec = CODECS["wordpiece"]
    fox, plural = 4, 5
    assert codec.decode([3, fox, plural]) == "the foxes"
    assert codec.decoder().feed(fox) == "fox"
    assert codec.decoder([1, 3]).feed(fox) == " fox"
    assert codec.decoder([fox]).feed(plural) == "es"
    assert codec.piece(plural) == b"es"


def test_special_tokens() -> None:
    codec = CODECS["byte-level"]
    ids = codec.encode("<|im_start|>user\nhi<|im_end|><tool_call>")
    assert ids[0] == 1
    assert ids[-2] == 2
    assert codec.decode(ids) == "<|im_start|>user\nhi<|im_end|><tool_call>"
    decoder = codec.decoder()
    assert "".join(map(decoder.feed, ids)) == "user\nhi<tool_call>"
    assert codec.piece(1) == b"<|im_start|>"
    assert codec.bos_token == ""
    assert codec.eos_token == "<|im_end|>"


def test_ids_that_only_the_model_has() -> None:
    codec = CODECS["byte-level"]
    assert codec.piece(399) == b""
    assert codec.decoder().feed(399) == ""
    for bad in (400, -1):
        with pytest.raises(InvalidArgument):
            codec.piece(bad)
        with pytest.raises(InvalidArgument):
            codec.decode([bad])


def test_lone_surrogates_do_not_break_anything() -> None:
    for codec in CODECS.values():
        assert isinstance(codec.encode("a\ud800b"), list)


def test_rendering() -> None:
    codec = CODECS["byte-level"]
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
    assert codec.render(messages, []) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    closed = codec.render(messages, [], add_generation_prompt=False)
    assert closed == "<|im_start|>user\nhi<|im_end|>\n"
    assert codec.template_name == "chatml"
    assert "im_start" in codec.chat_template


def test_a_refusing_template_is_an_argument_error() -> None:
    codec = CODECS["byte-level"]
    with pytest.raises(InvalidArgument, match="Unknown role: elf"):
        codec.render([{"role": "elf", "content": "hi"}], [])
    with pytest.raises(InvalidArgument):
        codec.render([{"role": "user", "content": None}], [])
    with pytest.raises(InvalidArgument, match="no chat template"):
        CODECS["sentencepiece"].render([{"role": "user", "content": "hi"}], [])
    assert CODECS["sentencepiece"].template_name == ""
