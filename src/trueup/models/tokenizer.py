"""A model's tokenizer and what ends a response, read from its folder; weights are not needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.errors import InputError
from trueup.feedback.condition import Condition, read_condition
from trueup.model_folder import base_folder, context_length
from trueup.models.foreign_code import TOKENIZERS, check_chat_template
from trueup.words import one_line


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """What encodes feedback for a model."""

    tokenizer: Any
    end_ids: tuple[int, ...]
    """Tokens that end a response; the first is the tokenizer's end of sequence."""
    positions: int | None
    """Tokens of one sequence that the model was made for; None where its configuration does not say."""
    vocabulary: int | None
    """Tokens that the model was made for; None where its configuration does not say."""
    condition: Condition | None = None
    """What the model was trained to be asked with, by conditional alignment."""


def load_tokenizer(
    path: str,
    *,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
) -> LoadedTokenizer:
    """Read the tokenizer of a model or an adapter, exactly as `trueup.models.load.load` does, without the weights.

    Args:
        path: folder in Hugging Face format, or of a PEFT adapter; weights need not be there.
        eos_token: end of sequence for a tokenizer that has none.
        chat_template: file with a chat template for a tokenizer that has none.

    Raises:
        InputError: there is no configuration or no tokenizer, or there is no end of sequence.
    """
    base = base_folder(path)
    config = _config(base, trust_remote_code)
    tokenizer = read_tokenizer(path, base, trust_remote_code=trust_remote_code, chat_template=chat_template)
    ends = find_end_ids(_generation(base, config), tokenizer, eos_token, path)
    text = config.get_text_config()
    return LoadedTokenizer(
        tokenizer=tokenizer,
        end_ids=ends,
        positions=context_length(config),
        vocabulary=getattr(text, "vocab_size", None),
        condition=read_condition(Path(path)),
    )


def read_tokenizer(path: str, base: str, *, trust_remote_code: bool, chat_template: str | None) -> Any:
    """The tokenizer in the folder given, or else in that of the base model, with another template where asked.

    Raises:
        InputError: neither can be loaded, the file of the template cannot be read, or the template never ends.
    """
    from transformers import AutoTokenizer

    own = any((Path(path) / name).is_file() for name in TOKENIZERS)
    with quiet():
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                path if own else base, local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # the library raises many kinds for a folder it cannot read
            reason = one_line(error)
            raise InputError(f"{path}: no tokenizer that can be loaded: {reason}") from error
    # trueup cuts to the model's length itself, and counts what it cuts; the library would warn of each long text.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if chat_template is not None:
        try:
            tokenizer.chat_template = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"--chat-template {chat_template}: not a text file in UTF-8: {error}") from error
    templates = tokenizer.chat_template
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        if isinstance(template, str):
            check_chat_template(template)
    return tokenizer


def find_end_ids(generation: Any, tokenizer: Any, eos_token: str | None, path: str) -> tuple[int, ...]:
    """The tokens that end a response: the tokenizer's end of sequence, and those the model stops at.

    Args:
        generation: the model's generation configuration, or None.
        eos_token: becomes the tokenizer's end of sequence.

    Raises:
        InputError: there is none, or `eos_token` is not one token.
    """
    if eos_token is not None:
        number = tokenizer.convert_tokens_to_ids(eos_token)
        if number is None or number == tokenizer.unk_token_id:
            raise InputError(f"{path}: --eos-token {eos_token!r} is not one token of the model's vocabulary")
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{path}: the tokenizer has no end-of-sequence token, so a response could not be ended. Name one of its "
            "tokens with --eos-token"
        )
    named = getattr(generation, "eos_token_id", None)
    named = [] if named is None else [named] if isinstance(named, int) else list(named)
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *map(int, named)]))


def _config(base: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    with quiet():
        try:
            return AutoConfig.from_pretrained(
                base, local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # as above
            reason = one_line(error)
            raise InputError(f"{base}: no model's configuration that can be loaded: {reason}") from error


def _generation(base: str, config: Any) -> Any:
    """The generation configuration that a model loaded from this folder would have."""
    from transformers import GenerationConfig

    with quiet():
        try:
            return GenerationConfig.from_pretrained(base, local_files_only=True)
        except OSError:  # no such file, or a torn one: the library then takes the model's own
            return GenerationConfig.from_model_config(config)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the model library's notices and progress bars off the user's screen while it loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
