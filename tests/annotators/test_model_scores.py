"""Scores of models in this process: a reward model's, or a language model's own likelihood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.refusals import refused
from support.tiny_models import CONFIGS, char_tokenizer, far_from_uniform
from support.tiny_reward_models import library_scores, save_causal, save_reward
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from trueup.annotators import local
from trueup.errors import AnnotatorError, Stopped
from trueup.feedback.condition import Condition
from trueup.feedback.records import Discarded, Example, Message, Origin, Prompt, Response
from trueup.models.reward import load_reward
from trueup.settings.annotator_kinds import LikelihoodAnnotator, RewardAnnotator

TEXTS = {"say red 3:": (" red", " blue blue", "", " no"), "2 + 2 =": (" 4",), "a": (" b", " c")}


def example(prompt: Any, *responses: Any, row: int = 1, **more: Any) -> Example:
    return Example(Prompt(prompt, origin=Origin("a.jsonl", row)), tuple(Response(one) for one in responses), **more)


EXAMPLES = [example(prompt, *responses, row=row) for row, (prompt, responses) in enumerate(TEXTS.items(), 1)]


def reward(path: Path, **more: Any) -> local.ModelAnnotator:
    return local.load_reward_annotator(RewardAnnotator(str(path)), device="cpu", **more)


def likelihood(path: Path) -> local.ModelAnnotator:
    return local.load_likelihood_annotator(LikelihoodAnnotator(str(path)), device="cpu")


def scores(annotator: local.ModelAnnotator, examples: list[Example]) -> list[list[float]]:
    made = annotator.annotate(examples).examples
    assert all(isinstance(one, Example) for one in made)
    return [[float(one.score) for one in each.responses] for each in made]  # type: ignore[union-attr,arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_reward(tmp_path / "rm")


def test_scores_are_those_of_the_library(folder: Path) -> None:
    """And nothing else is changed by it."""
    annotator = reward(folder)
    before, limits = torch.get_rng_state(), annotator.encoder.limits
    assert (annotator.gives, annotator.name) == ("scores", f"reward:{folder}")
    texts = [f"{prompt}{response}<eos>" for prompt, responses in TEXTS.items() for response in responses]
    found = [score for each in scores(annotator, EXAMPLES) for score in each]
    assert found == pytest.approx(library_scores(folder, texts), abs=1e-4)
    assert annotator.annotate(EXAMPLES).totals == {"scores": 7.0, "prompts_cut": 0.0}
    assert torch.equal(torch.get_rng_state(), before) and annotator.encoder.limits == limits
    assert not any(value.requires_grad for value in annotator.model.network.parameters())
    assert not annotator.model.network.training


def test_likelihoods_are_means_over_tokens_and_the_end(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "m")
    found = [score for each in scores(likelihood(folder), EXAMPLES) for score in each]
    assert found == pytest.approx(means_of(folder, TEXTS), abs=1e-4)


def means_of(folder: Path, texts: Mapping[str, Sequence[str]]) -> list[float]:
    """Worked from the library's own log-softmax."""
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = char_tokenizer()
    expected = []
    for prompt, responses in texts.items():
        start = len(tokenizer(prompt).input_ids)
        for response in responses:
            ids = tokenizer(f"{prompt}{response}<eos>", return_tensors="pt").input_ids
            with torch.no_grad():
                log_prob_LV = network(ids).logits[0, :-1].log_softmax(-1)
            expected.append(log_prob_LV.gather(-1, ids[0, 1:, None])[start - 1 :].mean().item())
    return expected


def test_a_window_that_only_the_librarys_mask_has_is_kept(tmp_path: Path) -> None:
    """Though the texts that a model is tried out on are shorter than it."""
    folder = save_causal(tmp_path / "m")
    size = AutoConfig.from_pretrained(folder).vocab_size
    about = {**CONFIGS["llama"], "vocab_size": size, "sliding_window": 64, "num_local_experts": 4}
    config = AutoConfig.for_model("phimoe", **about)
    far_from_uniform(AutoModelForCausalLM.from_config(config)).save_pretrained(folder)
    judge, prompt, responses = likelihood(folder), "abc " * 40, ("ab" * 30, "no")
    assert judge.model.attention == "forked"  # its own mask, whose window the cache has, too
    (found,) = scores(judge, [example(prompt, *responses)])
    assert found == pytest.approx(means_of(folder, {prompt: responses}), abs=1e-4)


@pytest.mark.parametrize("load", [reward, likelihood])
def test_a_score_depends_on_its_own_example_alone(load: Callable[[Path], local.ModelAnnotator], tmp_path: Path) -> None:
    """To the last bit, in any company and order; through shared streams, as on a GPU, to rounding."""
    folder = save_reward(tmp_path / "rm") if load is reward else save_causal(tmp_path / "m")
    annotator = load(folder)
    together = scores(annotator, EXAMPLES)
    alone = [scores(annotator, [one])[0] for one in EXAMPLES]
    assert together == alone == scores(annotator, EXAMPLES[::-1])[::-1]
    annotator.batch_tokens = 40
    shared = scores(annotator, EXAMPLES)
    for some, others in zip(shared, alone, strict=True):
        assert some == pytest.approx(others, abs=1e-4)


def test_ids_of_a_policy_are_not_its_own(folder: Path) -> None:
    """A response is scored by its text: the ids that stand with it may be of another tokenizer."""
    plain = example("a", " b", " c")
    written = replace(plain, responses=tuple(replace(one, tokens=(7, 8)) for one in plain.responses))
    assert scores(reward(folder), [written]) == scores(reward(folder), [plain])


def test_a_long_prompt_loses_its_beginning_and_is_counted(tmp_path: Path) -> None:
    folder = save_reward(tmp_path / "rm", max_position_embeddings=32)
    annotator = reward(folder)
    room = 32 - len(" seven") - 1
    beginning = "x" * 50
    long, kept = example(beginning + "say seven:", " seven", " b"), (beginning + "say seven:")[1 - room :]
    made = annotator.annotate([long, example("a", " b")])
    assert made.totals == {"scores": 3.0, "prompts_cut": 1.0}
    (first, _) = made.examples
    assert isinstance(first, Example) and first.prompt == long.prompt
    expected = library_scores(folder, [f"{kept}{response}<eos>" for response in (" seven", " b")])
    assert [one.score for one in first.responses] == pytest.approx(expected, abs=1e-4)


def test_a_response_that_cannot_be_read_whole_is_left_out(tmp_path: Path) -> None:
    annotator = reward(save_reward(tmp_path / "rm", max_position_embeddings=32))
    made = annotator.annotate([example("a", "x" * 40, " b", row=4), example("a", " b")])
    assert made.examples[0] == Discarded(
        f"response longer than the 32 tokens that {annotator.name} can read", Origin("a.jsonl", 4)
    )
    assert isinstance(made.examples[1], Example)
    assert made.totals["scores"] == 1.0


def test_a_conversation_and_its_template(folder: Path, tmp_path: Path) -> None:
    talk = example((Message("user", "2 + 2 = ?"),), "4", (Message("assistant", "5"),))
    text = "<|im_start|>user\n2 + 2 = ?<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n<eos>"
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = load_reward(str(folder), device=torch.device("cpu")).network
    ids = [tokenizer(text.format(n), return_tensors="pt", add_special_tokens=False).input_ids for n in "45"]
    with torch.no_grad():
        expected = [network(one).logits[0, 0].item() for one in ids]
    assert scores(reward(folder), [talk])[0] == pytest.approx(expected, abs=1e-4)
    bare = save_reward(tmp_path / "bare", tokenizer=char_tokenizer())
    with refused(rf"^a.jsonl:1: reward:{bare}: .* has no chat template\. .*chat_template.jinja"):
        reward(bare).annotate([talk])


def test_a_score_that_is_no_number_names_its_example(folder: Path) -> None:
    annotator = reward(folder)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][0, 3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(AnnotatorError, match=rf"^reward:{folder} gives plain short responses the score nan, "):
        reward(folder)
    head: Any = annotator.model.inner.score
    with torch.no_grad():
        head.weight[0, 3] = float("nan")
    with pytest.raises(AnnotatorError, match=r"^a.jsonl:1: reward:.* gave response 1 the score nan"):
        annotator.annotate(EXAMPLES)


def test_a_conditioned_policy_is_asked_with_its_condition(tmp_path: Path) -> None:
    """As whenever the model is asked; a reward model made of it is not."""
    folder = save_causal(tmp_path / "m")
    plain = scores(likelihood(folder), EXAMPLES)
    Condition(" <{reward}> ", 1, "end", reward=2.3).save(folder)
    written = [replace(one, prompt=Prompt(f"{one.prompt.content} <2.3> ")) for one in EXAMPLES]
    asked = scores(likelihood(folder), EXAMPLES)
    assert asked != plain
    (folder / "condition.json").unlink()
    assert asked == scores(likelihood(folder), written)


def test_it_listens_while_it_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def poll() -> None:
        looks.append(1)
        if len(looks) == 5:
            raise Stopped("SIGTERM")

    annotator = reward(folder)
    monkeypatch.setattr("trueup.stop.check", poll)
    with pytest.raises(Stopped):
        annotator.annotate(EXAMPLES)
    assert len(looks) == 5  # three examples read, and the second of the forward passes
