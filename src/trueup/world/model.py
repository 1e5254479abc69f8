"""The world's language model as a folder in Hugging Face format, made on the spot and kept in a cache."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from trueup.errors import InputError
from trueup.models.load import quiet
from trueup.paths import cache_folder
from trueup.world.supervised import STEPS, Progress, train_world_model

SOURCES = ("language", "people", "tokenizer", "supervised", "model")
"""The modules that decide the weights and files of a world model."""


def make_world_model(
    folder: str | Path, *, seed: int = 0, steps: int = STEPS, progress: Progress | None = None
) -> Path:
    """Train a world model and write it and its tokenizer to `folder`.

    The same seed gives the same files, on one machine and with the same versions of torch and transformers.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _save(*train_world_model(seed=seed, steps=steps, progress=progress), folder)
    except OSError as error:
        raise InputError(f"cannot write the world model to {folder}: {error}") from error
    return folder


def world_model_path(seed: int = 0, *, steps: int = STEPS, progress: Progress | None = None) -> Path:
    """The folder of the world model of this seed, made now unless it is in the cache.

    A folder appears in the cache whole or not at all, and its name changes with all that its content depends
    on. Two processes that make the same one at once end with the same folder.

    Raises:
        InputError: the cache cannot be written.
    """
    cache = cache_folder()
    folder = cache / f"world-{seed}-{_fingerprint(seed, steps)}"
    if folder.is_dir():
        return folder
    remedy = "set TRUEUP_CACHE to a folder that can be written"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the cache folder {cache}: {error}; {remedy}") from error
    if not os.access(cache, os.W_OK):
        raise InputError(f"cannot write to the cache folder {cache}; {remedy}")
    trained = train_world_model(seed=seed, steps=steps, progress=progress)
    making = cache / f".making-{uuid.uuid4().hex}"
    try:
        making.mkdir()
        _save(*trained, making)
        making.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was first
            raise InputError(f"cannot write the world model to {cache}: {error}; {remedy}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    with _no_bars(), quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the model library's progress bars off the screen."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _fingerprint(seed: int, steps: int) -> str:
    sources = [Path(__file__).with_name(f"{name}.py") for name in SOURCES]
    facts = f"{seed} {steps} {torch.__version__} {transformers.__version__}"
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources) + facts.encode()).hexdigest()[:12]
