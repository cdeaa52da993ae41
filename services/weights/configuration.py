"""Reads what is beside the weights in a Hugging Face folder: configuration and tokenizer."""

import logging
from typing import Any, cast

import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from services.errors import FailedPrecondition
from services.weights.folder import ModelFolder

_log = logging.getLogger(__name__)


def load_config(folder: ModelFolder) -> PretrainedConfig:
    """The configuration.

    Raises:
        FailedPrecondition: transformers doesn't know it.
    """
    try:
        config: Any = cast("Any", AutoConfig).from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        _log.exception("a configuration can't be loaded")
        kind = folder.config.get("model_type") or "none"
        raise FailedPrecondition(
            f"config.json can't be used: its model_type is “{kind}”, and transformers "
            f"{transformers.__version__} must know it and all its settings; the server's log has "
            f"the details."
        ) from error
    return cast("PretrainedConfig", config)


def load_tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    """The tokenizer.

    Raises:
        FailedPrecondition: it can't be loaded.
    """
    try:
        tokenizer: Any = cast("Any", AutoTokenizer).from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        _log.exception("a tokenizer can't be loaded")
        raise FailedPrecondition(
            "The tokenizer can't be loaded: save it into the folder again with "
            "`tokenizer.save_pretrained(folder)` of a recent transformers, so that there is a "
            "tokenizer.json; the server's log has the details."
        ) from error
    return cast("PreTrainedTokenizerBase", tokenizer)


def fast_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """What a tokenizer computes with, in the `tokenizers` library.

    Raises:
        FailedPrecondition: it is written in Python.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise FailedPrecondition(
            "The tokenizer has no tokenizer.json form: save it again with a recent transformers."
        )
    return backend
