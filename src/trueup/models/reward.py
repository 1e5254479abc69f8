"""A reward model: a language model's body under a head of one number, read as a function from streams to scores.

The network is the library's own for sequence classification, and the number is the one that its forward pass gives
of the prompt and the response, so that what is trained here is scored alike elsewhere. It is one that was trained
before, or a causal language model whose head is new.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trueup.batch.rows import Part, Scores
from trueup.batch.stream import Stream
from trueup.errors import InputError
from trueup.model_folder import base_folder, is_adapter, scores_text
from trueup.models import causal, load
from trueup.models.attention.padded import row_places
from trueup.models.tokenizer import check_patterns, load_tokenizer

HEAD = "score"
"""What the library calls the head of the decoders it makes classifiers of."""


class RewardModel(causal.StreamModel[Scores]):
    """A sequence-classification model of one output, read at the last token of each response; its head is float32."""

    def forward(self, stream: Stream, parts: Collection[Part] = ()) -> Scores:
        """The score of each response; there are no further parts."""
        inner = self.inner
        hidden_NH = self.hidden(at_last_tokens(stream, inner.config.get_text_config().pad_token_id))
        with torch.autocast(self.device.type, enabled=False):
            exact_NH = hidden_NH.to(torch.promote_types(hidden_NH.dtype, torch.float32))
            score_N: Tensor = getattr(inner, HEAD)(exact_NH)[:, 0]
        return Scores(score_N)


def at_last_tokens(stream: Stream, pad: int | None) -> Stream:
    """The stream with one place for each response: the last token not `pad`, where the library reads a score."""
    place_NL = row_places(stream)
    read_NL = place_NL >= 0
    if pad is not None:
        read_NL &= stream.token_T[place_NL.clamp(min=0)] != pad
    column_L = torch.arange(place_NL.shape[1], device=place_NL.device)
    last_N = torch.where(read_NL, column_L, 0).amax(1)
    place_N = place_NL.gather(1, last_N[:, None])[:, 0]
    target_N, one_N = stream.token_T.index_select(0, place_N), torch.ones_like(stream.length_N)
    return replace(stream, source_S=place_N, target_S=target_N, length_N=one_N)


def naive_scores(model: RewardModel, stream: Stream) -> Tensor:
    """[N] the library's own forward pass of each row by itself, at the model's own precision."""
    with model.plain():
        scores = [
            model.by_library(input_ids=stream.token_T[place_L[place_L >= 0]][None], use_cache=False).logits[0, 0]
            for place_L in row_places(stream)
        ]
    return torch.stack(scores).float()


def load_reward(
    path: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    seed: int | None = None,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
    quantize: Mapping[str, Any] | None = None,
    later: bool = False,
) -> load.Loaded:
    """Read a reward model, or a causal language model that is to become one, its head drawn from `seed`.
    The tokenizer is given the padding token that the library looks for when it reads a score (`padding`). InputError
    also where the family has no such head, or it is no reward model and `seed` is None."""
    adapted = is_adapter(path)
    base = base_folder(path)
    if adapted and not scores_text(path):
        raise InputError(
            f"{path}: an adapter of a causal language model, which a reward model cannot be made of. Merge it "
            "into its base model and give that, or give the base model"
        )
    trained = scores_text(base)
    if seed is None and not trained and not adapted:
        raise InputError(
            f"{path}: a causal language model, not a reward model. Give a folder that `trueup train reward-model` "
            f"wrote, or take its log-likelihoods for scores with likelihood:{path}"
        )
    read = load_tokenizer(path, trust_remote_code=trust_remote_code, eos_token=eos_token, chat_template=chat_template)
    check_patterns(path, base)
    network = _network(base, trained, dtype, trust_remote_code, later, quantize or {})
    if not trained:
        draw_head(network, seed or 0)
        network.config.eos_token_id = list(read.end_ids) if len(read.end_ids) > 1 else read.end_ids[0]
    head: nn.Module = getattr(network, HEAD)
    head.float()
    padding(network, read.tokenizer, trained=trained)
    return load.put_together(path, network, replace(read, condition=None), device)


def draw_head(network: Any, seed: int) -> None:
    """Entries from a normal distribution of variance 1 / (H + 1), H being the width, as Stiennon et al., 2020,
    https://arxiv.org/abs/2009.01325, Appendix B, begin with."""
    weight: nn.Parameter = getattr(network, HEAD).weight
    generator = torch.Generator().manual_seed(seed)
    entries = torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1)
    with torch.no_grad():
        weight.copy_(entries)


def padding(network: Any, tokenizer: Any, *, trained: bool) -> None:
    """Let network and tokenizer agree on a padding token, one that does not end responses where there is such a one.
    The library reads a sequence at its last token that is not padding. Where the end of sequence is the padding, as
    with GPT-2's tokenizer, that is the token before the end. One that is `trained` reads where it did."""
    config, end = network.config.get_text_config(), tokenizer.eos_token_id
    known = (config.pad_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    usable = [one for one in known if one is not None and 0 <= one < len(tokenizer)]
    pad = next((one for one in usable if one != end), None)
    if trained and config.pad_token_id is not None:
        pad = config.pad_token_id
    elif pad is None and not trained:
        pad = end
    config.pad_token_id = network.config.pad_token_id = pad
    if pad is not None and 0 <= pad < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.padding_side = "right"


def _network(
    path: str, trained: bool, dtype: torch.dtype, trust_remote_code: bool, later: bool, quantize: Mapping[str, Any]
) -> Any:
    from transformers import AutoModelForSequenceClassification

    options: dict[str, Any] = {} if trained else {"num_labels": 1, "problem_type": "regression"}
    options |= quantize
    what = "a model that can be loaded as a reward model"
    try:
        network, report = load.read_network(
            AutoModelForSequenceClassification, path, what, dtype, trust_remote_code, later, HEAD, **options
        )
    except InputError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        reason = "its family has no class for sequence classification in transformers"
        raise InputError(f"{path}: not {what}: {reason}") from error
    if network.config.num_labels != 1:
        raise InputError(
            f"{path}: a classifier of {network.config.num_labels} classes; a reward model has one output. "
            "Give another model"
        )
    if not isinstance(getattr(network, HEAD, None), nn.Linear):
        raise InputError(
            f"{path}: {type(network).__name__} has no linear head {HEAD!r} on a decoder's hidden states, which "
            "is where scores are read. Give a decoder of another family"
        )
    load.refuse_incomplete(path, network, report, new=None if trained else f"{HEAD}.weight")
    return network
