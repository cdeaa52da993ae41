"""Random encoders small enough to make on the fly, with the real architectures' own code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "The sky on Mars is red.",
    "What color is the sky on Mars?",
    "Bread is baked in the morning, slowly and with care, by those who rise before the sun does.",
    "water",
    "Grüße aus Köln! Ça va? Привет, мир. 你好，世界。 😀",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 2,
    "The sky on Mars is red.",
    "x",
]
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "initializer_range": 0.2,  # attention that is not flat
    "pad_token_id": 0,
}
PACKED: dict[str, dict[str, Any]] = {
    "bert": {},
    "bert-relu": {"model_type": "bert", "hidden_act": "relu"},
    "ernie": {},
    "electra": {"embedding_size": 16},
    "electra-plain": {"model_type": "electra", "embedding_size": 32},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "camembert": {"pad_token_id": 1, "type_vocab_size": 1},
    "mpnet": {"pad_token_id": 1},
    "distilbert": {
        "dim": 32,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "activation": "gelu",
    },
    "modernbert": {
        "num_hidden_layers": 4,
        "local_attention": 12,
        "initializer_cutoff_factor": 2.0,
        "bos_token_id": None,
        "eos_token_id": None,
        "cls_token_id": None,
        "sep_token_id": None,
    },
    "nomic_bert": {"bos_token_id": None, "eos_token_id": None},
}
"""Families that the packed encoder runs."""
PADDED: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": None},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
}
"""Families that run on transformers' code."""
_BYTES = frozenset({"roberta", "camembert", "xlm-roberta", "qwen3", "modernbert"})


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(5)  # as real folders have it; the engine takes texts whole
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def save_encoder(folder: Path, family: str = "bert", *, labels: int = 0, **changes: Any) -> Path:
    """Saves a random encoder of a family, or with labels a cross-encoder, and its tokenizer."""
    options = {**SHAPE, **(PACKED | PADDED)[family], **changes}
    kind = options.pop("model_type", family)
    tokenizer = bytes_tokenizer() if kind in _BYTES else wordpiece_tokenizer()
    if labels:
        options["num_labels"] = labels
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **options)
    torch.manual_seed(5)
    make: Any = AutoModel
    if labels:
        make = AutoModelForSequenceClassification
    elif kind == "t5":
        make = AutoModelForTextEncoding
    model = make.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # fresh ones are zeros and ones
            if name.endswith("bias") or "norm" in name.lower():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    model.save_pretrained(folder)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    return folder


def write_json(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")


def add_modules(
    folder: Path,
    *parts: tuple[str, str],
    pooling: Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    default_prompt: str | None = None,
) -> Path:
    """Writes sentence-transformers' files; parts are kinds and folders after the transformer."""
    listed: Sequence[tuple[str, str]] = [("Transformer", ""), *parts]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(listed)
        ],
    )
    if pooling is not None:
        write_json(folder / "1_Pooling" / "config.json", pooling)
    if prompts is not None:
        write_json(
            folder / "config_sentence_transformers.json",
            {"prompts": dict(prompts), "default_prompt_name": default_prompt},
        )
    return folder
