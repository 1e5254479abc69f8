"""Toy reward models in folders, and what the model library makes of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from support import tiny_models
from trueup.models.reward import load_reward

TOKENS = len(tiny_models.SPECIAL) + len(tiny_models.CHARACTERS) + 1


def reward_network(seed: int) -> Any:
    """A random Llama under a scalar head, far from uniform."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model("llama", **{**tiny_models.CONFIGS["llama"], "vocab_size": TOKENS, "num_labels": 1})
    return tiny_models.far_from_uniform(AutoModelForSequenceClassification.from_config(config))


def save_causal(folder: Path, name: str = "llama", *, tokenizer: Any = None, seed: int = 0, **changes: Any) -> Path:
    """A random causal model of a family, far from uniform, with a tokenizer of single characters."""
    tiny_models.toy_network(name, seed, **{"vocab_size": TOKENS, **changes}).save_pretrained(folder)
    (tokenizer or tiny_models.char_tokenizer(chat_template=tiny_models.CHATML)).save_pretrained(folder)
    return folder


def save_reward(folder: Path, name: str = "llama", *, seed: int = 0, **more: Any) -> Path:
    """A random reward model of a family, made of such a causal one."""
    causal = save_causal(folder.with_name(f"{folder.name}-causal"), name, seed=seed, **more)
    loaded = load_reward(str(causal), device=torch.device("cpu"), seed=seed)
    network: Any = loaded.network
    network.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def library_scores(folder: Path, texts: Sequence[str], *, together: bool = False) -> list[float]:
    """What a sequence classifier that was loaded by its folder alone says of whole texts, end of sequence included."""
    network, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return scores_of(network, AutoTokenizer.from_pretrained(folder), texts, together=together)


@torch.no_grad()
def scores_of(network: Any, tokenizer: Any, texts: Sequence[str], *, together: bool = False) -> list[float]:
    """Of each text by itself, or of a padded batch."""
    network.eval()
    if together:
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, return_token_type_ids=False)
        return [float(score) for score in network(**batch).logits[:, 0]]
    alone = (tokenizer(text, return_tensors="pt", return_token_type_ids=False) for text in texts)
    return [float(network(**one).logits[0, 0]) for one in alone]
