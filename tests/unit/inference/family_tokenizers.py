"""Tiny tokenizers of the kinds that the families use, with their special tokens and templates."""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.unit.inference.family_templates import BEGIN, END, SPECIAL, TEMPLATES

CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789<>|_[]/{}":,.éAGINSTROLUC '


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3, Qwen and Tekken."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: id for id, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As Llama 2 and the older Mistral: `▁` in front, bytes for what has no token."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS, "▁", "▁[", "<|"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: id for id, piece in enumerate(dict.fromkeys(pieces))},
            [("▁", "["), ("<", "|")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
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
    return tokenizer


def unigram() -> Tokenizer:
    """As T5: control tokens are pieces of the model too, and its best ones."""
    pieces = ["<unk>", "<s>", "</s>", "<|eot_id|>", "<|im_end|>", *dict.fromkeys(CHARACTERS), "▁"]
    scores = [(piece, -1.0 if len(piece) == 1 else 0.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


KINDS = {"byte-level": byte_level, "sentencepiece": sentencepiece, "unigram": unigram}


def family_tokenizer(family: str, kind: str = "byte-level") -> PreTrainedTokenizerFast:
    """A tokenizer of this kind with the family's special tokens and template."""
    tokenizer = KINDS[kind]()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in SPECIAL[family]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN[family],
        eos_token=END[family],
        chat_template=TEMPLATES[family],
    )
