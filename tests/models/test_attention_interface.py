"""What the attention of a stream will not compute, it refuses, so that another layout is taken."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from support.tiny_models import token_group, toy_network
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trueup.batch.stream import build_stream
from trueup.models import attention
from trueup.models.attention import UnsupportedAttention, automatic, backend, dense
from trueup.models.attention.dense import dense_attention, plan_dense
from trueup.models.attention.grouped import grouped_attention, plan_attention
from trueup.models.causal import CausalModel
from trueup.settings.run_settings import RunSettings

STREAM = build_stream([token_group(4, [3, 2], 1)])
BACKENDS = {
    "grouped": (grouped_attention, plan_attention(STREAM)),
    "dense": (dense_attention, plan_dense(STREAM)),
}
both = pytest.mark.parametrize("name", BACKENDS)


def called(name: str, mask: torch.Tensor | None = None, **keywords: Any) -> tuple[torch.Tensor, None]:
    function, plan = BACKENDS[name]
    query, key, value = (torch.randn(1, heads, STREAM.num_tokens, 8) for heads in (4, 2, 2))
    module = torch.nn.Module()
    result: tuple[torch.Tensor, None] = function(module, query, key, value, mask, **{"trueup_plan": plan, **keywords})
    return result


@both
def test_the_result_is_laid_out_as_the_library_wants_it(name: str) -> None:
    result, weights = called(name)
    assert result.shape == (1, STREAM.num_tokens, 4, 8)
    assert weights is None


@both
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"trueup_plan": None}, "does not hand its keyword arguments to its attention"),
        ({"trueup_plan": STREAM}, "does not hand its keyword arguments to its attention"),
        ({"mask": torch.zeros(1, 1, 9, 9)}, "brings an attention mask of its own"),
        ({"dropout": 0.1}, "attention dropout of 0.1 is on"),
        ({"s_aux": torch.zeros(4)}, "attention takes s_aux"),
        ({"position_bias": torch.zeros(4)}, "attention takes position_bias"),
        ({"head_mask": torch.zeros(4)}, "attention takes head_mask"),
        ({"is_causal": False}, "attention is not causal"),
    ],
)
def test_what_would_be_ignored_is_refused(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedAttention, match=message):
        called(name, **keywords)


@both
def test_keywords_that_say_nothing_are_let_pass(name: str) -> None:
    called(name, is_causal=True, s_aux=None, dropout=0.0, position_ids=STREAM.position_T[None], use_cache=False)


def test_the_library_knows_our_attention_and_builds_no_mask_for_it() -> None:
    for name, (function, _) in BACKENDS.items():
        registered = backend(name).implementation
        assert ALL_ATTENTION_FUNCTIONS[registered] is function
        assert registered not in ALL_MASK_ATTENTION_FUNCTIONS
    assert backend("padded").implementation is None


def test_the_fastest_comes_first_and_what_a_device_does_not_support_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    assert [one.name for one in automatic(cpu)] == ["grouped", "forked", "padded"]
    unsupported = replace(backend("dense"), order=1, supports=lambda device: device.type == "cuda")
    monkeypatch.setattr(dense, "BACKEND", unsupported)
    assert [one.name for one in automatic(cpu)] == ["grouped", "forked", "padded"]
    for capability, kernel in (((9, 0), ["varlen", "flex"]), ((7, 5), [])):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        tried = [one.name for one in automatic(torch.device("cuda"))]
        assert tried == ["dense", *kernel, "grouped", "forked", "padded"]


def test_the_setting_offers_every_backend() -> None:
    hint = get_type_hints(RunSettings)["attention"]
    assert set(get_args(hint)) == {"auto", *attention.names()}


def test_a_backend_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halved.py").write_text(
        "from trueup.models.attention import Backend, dense\n"
        "BACKEND = Backend('halved', 'trueup_dense', dense.inputs, 'half of it')\n"
    )
    monkeypatch.setattr(attention, "__path__", [*attention.__path__, str(tmp_path)])
    assert attention.names() == ("dense", "flex", "forked", "grouped", "halved", "padded", "varlen")
    with torch.no_grad():
        model = CausalModel(toy_network(), attention="halved")
        found, expected = (
            model.log_probs(STREAM),
            CausalModel(toy_network(), attention="dense").log_probs(STREAM),
        )
    assert (model.attention, found.token_S.tolist()) == ("halved", expected.token_S.tolist())
