"""Models in this process as annotators: a judge reads what the library computes, the next token after the question,
and of it the two labels; scores are a reward model's, or a language model's own likelihood.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_models import CHATML, EOS, HYBRID, SPECIAL, char_tokenizer, save_tiny_model, toy_network
from support.tiny_reward_models import library_scores, save_causal, save_reward
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from trueup.annotators.judge import Question, Unreadable, Verdict
from trueup.annotators.local import (
    NOT_FINITE,
    LocalJudge,
    ModelAnnotator,
    answer_tokens,
    load_likelihood_annotator,
    load_local_annotator,
    load_reward_annotator,
)
from trueup.annotators.template import pose
from trueup.batch.encode import Encoder, Limits, PieceEncoder
from trueup.errors import AnnotatorError, InputError, Stopped
from trueup.feedback.condition import Condition
from trueup.feedback.records import Discarded, Example, Message, Origin, Prompt, Response
from trueup.models.causal import CausalModel
from trueup.models.reward import load_reward
from trueup.settings.annotator_settings import LikelihoodAnnotator, LocalAnnotator, RewardAnnotator

SHORT = "{{ instruction or 'Which?' }}\n{{ prompt }}\n1 {{ first }}\n2 {{ second }}\nAnswer="
QUESTIONS = [Question(text) for text in ("Which is it?=", "Another, which is longer.\nYes or no=", "x")]


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "short.jinja"
    path.write_text(SHORT)
    return str(path)


def judge(network: Any, tokenizer: Any, longest: int = 512, **options: Any) -> LocalJudge:
    encoder = Encoder(tokenizer, end_ids=(EOS,), limits=Limits(longest))
    return LocalJudge(CausalModel(network), encoder, name="toy", **options)


def random_judge(tokenizer: Any, longest: int = 512, seed: int = 0, **options: Any) -> LocalJudge:
    return judge(toy_network(seed=seed, vocab_size=len(tokenizer)), tokenizer, longest, **options)


def plain_first(network: Any, ids: list[int], first: list[int], second: list[int]) -> tuple[float, float]:
    """P(first label) and the probability of both, from the library's own logits."""
    network.set_attn_implementation("eager")
    with torch.no_grad():
        p = network(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    one, other = float(p[first].sum()), float(p[second].sum())
    return one / (one + other), one + other


@pytest.mark.parametrize("chat_template", [None, CHATML])
def test_a_verdict_is_the_share_of_the_first_label(chat_template: str | None) -> None:
    tokenizer = char_tokenizer(chat_template=chat_template)
    local = random_judge(tokenizer)
    heard = local.ask(QUESTIONS)
    mass = 0.0
    for question, verdict in zip(QUESTIONS, heard.verdicts, strict=True):
        text = question.text
        if chat_template is not None:
            text = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(text, add_special_tokens=chat_template is None).input_ids
        assert (ids[0] == tokenizer.bos_token_id) == (chat_template is None)
        first, both = plain_first(
            local.model.network, ids, *([tokenizer.convert_tokens_to_ids(n)] for n in "12")
        )
        assert isinstance(verdict, Verdict)
        assert verdict.first == pytest.approx(first, abs=1e-5)
        mass += both
    assert len({verdict.first for verdict in heard.verdicts if isinstance(verdict, Verdict)}) == 3
    assert heard.totals == {"label_mass": pytest.approx(mass, rel=1e-4)}


def test_exchanging_labels_exchanges_their_probabilities() -> None:
    local = random_judge(char_tokenizer())
    one, other = local.ask([Question("Which?="), Question("Which?=", ("2", "1"))]).verdicts
    assert isinstance(one, Verdict) and isinstance(other, Verdict)
    assert one.first == pytest.approx(1 - other.first, abs=1e-6)


def spaced_tokenizer(*merged: str, plain: str = "12ABx=") -> Any:
    """A tokenizer with a token for a space and what follows it, for the labels given, as GPT-2's has."""
    vocabulary = [*SPECIAL, *plain, " ", "\n", *(" " + one for one in merged)]
    backend = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(vocabulary)},
            [(" ", one) for one in merged],
            unk_token="<unk>",
        )
    )
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", bos_token="<bos>"
    )


def tokens_of(tokenizer: Any, labels: tuple[str, str] = ("1", "2")) -> list[list[str]]:
    found = answer_tokens(PieceEncoder(tokenizer, (EOS,)), labels)
    return [tokenizer.convert_ids_to_tokens(list(ids)) for ids in found]


def test_the_tokens_of_labels() -> None:
    assert tokens_of(char_tokenizer()) == [["1"], ["2"]]
    assert tokens_of(char_tokenizer(adds_space=True), ("A", "B")) == [["A"], ["B"]]
    assert tokens_of(spaced_tokenizer("1", "2")) == [["1", " 1"], ["2", " 2"]]
    assert tokens_of(spaced_tokenizer("1")) == [["1"], ["2"]]  # only as both are spelled


@pytest.mark.parametrize("name", ["stories260K", "tinystories-656k-bf16"])
def test_the_tokens_of_labels_in_real_tokenizers(name: str, shared: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared(f"models/{name}"))
    assert tokens_of(tokenizer) == [["1"], ["2"]]
    assert tokenizer.convert_ids_to_tokens(tokenizer("word1").input_ids)[-1] == "1"


@pytest.mark.parametrize(
    ("tokenizer", "labels"),
    [
        (spaced_tokenizer(plain="x="), ("1", "2")),  # neither
        (spaced_tokenizer(plain="1x="), ("1", "2")),  # one of them is unknown
        (char_tokenizer(), ("10", "20")),  # several tokens
        (char_tokenizer(), ("1", "1")),  # the same
    ],
)
def test_labels_that_are_no_tokens_are_refused(tokenizer: Any, labels: tuple[str, str]) -> None:
    with pytest.raises(InputError, match=f"does not write '{labels[0]}' and '{labels[1]}' as one token each"):
        tokens_of(tokenizer, labels)


def test_a_label_behind_a_space_counts_too() -> None:
    tokenizer = spaced_tokenizer("1", "2")
    local = random_judge(tokenizer)
    verdict = local.ask([Question("x x=")]).verdicts[0]
    first, second = ([tokenizer.convert_tokens_to_ids(lead + n) for lead in ("", " ")] for n in "12")
    expected, _ = plain_first(local.model.network, tokenizer("x x=").input_ids, first, second)
    assert isinstance(verdict, Verdict)
    assert verdict.first == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("chat_template", [None, CHATML])
def test_control_tokens_that_a_response_spells_stay_text(chat_template: str | None) -> None:
    tokenizer = char_tokenizer(chat_template=chat_template)
    local = random_judge(tokenizer)
    text = "a<eos><bos><|im_end|>\n<|im_start|>assistant\n1"
    (group,) = local.groups([Question(text)])
    special = [token for token in group.prompt.tolist() if token < len(SPECIAL)]
    own = ["<bos>"] if chat_template is None else ["<|im_start|>", "<|im_end|>", "<|im_start|>"]
    assert tokenizer.convert_ids_to_tokens(special) == own
    assert "".join(tokenizer.convert_ids_to_tokens(group.prompt)).count(text) == 1


def test_a_tokenizer_that_ends_texts_does_not_end_the_question() -> None:
    (group,) = random_judge(char_tokenizer(adds_eos=True)).groups([Question("Which?=")])
    assert group.prompt[-1] == char_tokenizer().convert_tokens_to_ids("=")


def test_a_question_that_is_too_long_cannot_be_read_and_spoils_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Question and answer together have as many tokens as the model has positions, and no more."""
    tokenizer = char_tokenizer(bos=False)
    tokenizer.model_max_length = 8
    long = [Question("x" * 10), Question("x" * 9), Question("x" * 500)]
    local = random_judge(tokenizer, longest=10)
    alone = local.ask([Question("x" * 9)])
    found = local.ask(long)
    reason = Unreadable("the question is longer than the 10 tokens that the model can read")
    assert found.verdicts == (reason, alone.verdicts[0], reason)
    assert isinstance(alone.verdicts[0], Verdict) and found.totals == alone.totals
    assert not caplog.records
    assert local.ask([]).verdicts == () and local.ask(long[:1]).verdicts == (reason,)


def test_batches_change_nothing_but_the_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [Question("x" * (1 + n % 7) + str(n) + "=") for n in range(20)]
    whole = random_judge(char_tokenizer()).ask(questions).verdicts
    asked: list[None] = []
    monkeypatch.setattr("trueup.stop.check", lambda: asked.append(None))
    small = random_judge(char_tokenizer(), batch_tokens=30).ask(questions).verdicts
    assert len(asked) > 5
    for one, other in zip(whole, small, strict=True):
        assert isinstance(one, Verdict) and isinstance(other, Verdict)
        assert one.first == pytest.approx(other.first, abs=1e-6)


def test_numbers_that_are_none_cannot_be_read() -> None:
    local = random_judge(char_tokenizer())
    with torch.no_grad():
        local.model.network.lm_head.weight.fill_(math.nan)
    assert local.ask(QUESTIONS[:1]).verdicts == (NOT_FINITE,)


def test_an_annotator_from_a_folder(tiny_model: Path, template: str) -> None:
    before = torch.get_rng_state()
    choice = LocalAnnotator(str(tiny_model), template=template, instruction="Prefer the green one.")
    made = load_local_annotator(choice, device="cpu")
    pairs = [("a pear", "an apple"), ("yes", "no"), ("", "something")]
    forward = made.annotate([example("What?", *pair) for pair in pairs]).examples
    backward = made.annotate([example("What?", *pair[::-1]) for pair in pairs]).examples
    for one, other in zip(forward, backward, strict=True):
        assert isinstance(one, Example) and isinstance(other, Example)
        (ours,), (theirs,) = one.comparisons, other.comparisons
        assert (ours.better, ours.worse) == (theirs.worse, theirs.better)
        assert ours.probability == theirs.probability  # to the bit
        assert 0.5 < ours.probability < 1
    assert made.name == str(tiny_model) and made.gives == "comparisons"
    assert (made.instruction, made.template.name) == ("Prefer the green one.", template)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in made.judge.model.network.parameters())  # type: ignore[attr-defined]


def test_probabilities_from_a_folder_are_the_library_s(tiny_model: Path, template: str) -> None:
    made = load_local_annotator(LocalAnnotator(str(tiny_model), template=template))
    tokenizer, network = (
        AutoTokenizer.from_pretrained(tiny_model),
        AutoModelForCausalLM.from_pretrained(tiny_model),
    )
    labels = [[tokenizer.convert_tokens_to_ids(n)] for n in "12"]
    shares = []
    for first, second in (("a pear", "yes"), ("yes", "a pear")):
        text = pose(made.template, Prompt("What?"), first, second).text
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        shares.append(plain_first(network, ids, *labels)[0])
    probability = (shares[0] + 1 - shares[1]) / 2
    (found,) = made.annotate([example("What?", "a pear", "yes")]).examples
    assert isinstance(found, Example)
    assert found.comparisons[0].better == (0 if probability > 0.5 else 1)
    assert found.comparisons[0].probability == pytest.approx(max(probability, 1 - probability), abs=1e-5)


def test_a_model_whose_state_is_sequential_is_judged_by_whole_rows(tmp_path: Path, template: str) -> None:
    tokenizer = char_tokenizer()
    network = toy_network(HYBRID, vocab_size=len(tokenizer))
    network.save_pretrained(tmp_path / "hybrid")
    tokenizer.save_pretrained(tmp_path / "hybrid")
    made = load_local_annotator(LocalAnnotator(str(tmp_path / "hybrid"), template=template))
    local = made.judge
    assert isinstance(local, LocalJudge)
    assert local.model.attention == "padded"
    labels = [[tokenizer.convert_tokens_to_ids(n)] for n in "12"]
    for question, verdict in zip(QUESTIONS, local.ask(QUESTIONS).verdicts, strict=True):
        assert isinstance(verdict, Verdict)
        expected, _ = plain_first(network, tokenizer(question.text).input_ids, *labels)
        assert verdict.first == pytest.approx(expected, abs=1e-4)


def test_a_template_too_long_for_the_model_stops_the_run(tiny_model: Path) -> None:
    """The model has 512 positions and a token for each character."""
    made = load_local_annotator(LocalAnnotator(str(tiny_model)))
    with pytest.raises(AnnotatorError) as caught:
        made.annotate([example("What?", str(n), "b") for n in range(10)])
    assert str(caught.value).startswith(
        f"{tiny_model}: 20 of 20 verdicts (100%) cannot be read, and no more than 10% may: the question is longer than "
        "the 512 tokens that the model can read (20). "
    )
    patient = load_local_annotator(LocalAnnotator(str(tiny_model), max_unreadable=1.0))
    assert patient.annotate([example("What?", str(n), "b") for n in range(10)]).totals["unreadable"] == 20


def test_what_cannot_judge_is_refused_with_its_name(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"template nothing: no such file"):
        load_local_annotator(LocalAnnotator(str(tiny_model), template="nothing"))
    with pytest.raises(InputError, match=r"none: not a causal language model that can be loaded"):
        load_local_annotator(LocalAnnotator(str(tmp_path / "none")))
    folder = save_tiny_model(tmp_path / "wordless", tokenizer=spaced_tokenizer(plain="x="))
    with pytest.raises(
        InputError, match=r"wordless: the tokenizer does not write '1' and '2' as one token each"
    ):
        load_local_annotator(LocalAnnotator(str(folder)))


TEXTS = {"say red 3:": (" red", " blue blue", "", " no"), "2 + 2 =": (" 4",), "a": (" b", " c")}


def example(prompt: Any, *responses: Any, row: int = 1, **more: Any) -> Example:
    return Example(
        Prompt(prompt, origin=Origin("a.jsonl", row)), tuple(Response(one) for one in responses), **more
    )


EXAMPLES = [example(prompt, *responses, row=row) for row, (prompt, responses) in enumerate(TEXTS.items(), 1)]


def reward(path: Path, **more: Any) -> ModelAnnotator:
    return load_reward_annotator(RewardAnnotator(str(path)), device="cpu", **more)


def likelihood(path: Path) -> ModelAnnotator:
    return load_likelihood_annotator(LikelihoodAnnotator(str(path)), device="cpu")


def scores(annotator: ModelAnnotator, examples: list[Example]) -> list[list[float]]:
    made = annotator.annotate(examples).examples
    assert all(isinstance(one, Example) for one in made)
    return [[float(one.score) for one in each.responses] for each in made]  # type: ignore[union-attr,arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_reward(tmp_path / "rm")


def test_scores_are_those_of_the_library(folder: Path) -> None:
    annotator = reward(folder)
    assert (annotator.gives, annotator.name) == ("scores", f"reward:{folder}")
    texts = [f"{prompt}{response}<eos>" for prompt, responses in TEXTS.items() for response in responses]
    found = [score for each in scores(annotator, EXAMPLES) for score in each]
    assert found == pytest.approx(library_scores(folder, texts), abs=1e-4)
    assert annotator.annotate(EXAMPLES).totals == {"scores": 7.0, "prompts_cut": 0.0}


def test_likelihoods_are_means_over_tokens_and_the_end(tmp_path: Path) -> None:
    """Worked from the library's own log-softmax."""
    folder = save_causal(tmp_path / "m")
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = char_tokenizer()
    expected = []
    for prompt, responses in TEXTS.items():
        start = len(tokenizer(prompt).input_ids)
        for response in responses:
            ids = tokenizer(f"{prompt}{response}<eos>", return_tensors="pt").input_ids
            with torch.no_grad():
                log_prob_LV = network(ids).logits[0, :-1].log_softmax(-1)
            expected.append(log_prob_LV.gather(-1, ids[0, 1:, None])[start - 1 :].mean().item())
    found = [score for each in scores(likelihood(folder), EXAMPLES) for score in each]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("load", [reward, likelihood])
def test_a_score_depends_on_its_own_example_alone(
    load: Callable[[Path], ModelAnnotator], tmp_path: Path
) -> None:
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
    loaded = load_reward(str(folder), device=torch.device("cpu"))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    network: Any = loaded.network
    expected = []
    for answer in "45":
        ids = tokenizer(text.format(answer), return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            expected.append(network(ids).logits[0, 0].item())
    assert scores(reward(folder), [talk])[0] == pytest.approx(expected, abs=1e-4)
    bare = save_reward(tmp_path / "bare", tokenizer=char_tokenizer())
    with pytest.raises(
        InputError, match=rf"^a.jsonl:1: .* reward:{bare} has no chat template\. .*chat_template.jinja"
    ):
        reward(bare).annotate([talk])


def test_a_score_that_is_no_number_names_its_example(folder: Path) -> None:
    annotator = reward(folder)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][0, 3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        AnnotatorError, match=rf"^reward:{folder} gives plain short responses the score nan, .*$"
    ):
        reward(folder)
    head: Any = annotator.model.inner.score
    with torch.no_grad():
        head.weight[0, 3] = float("nan")
    with pytest.raises(
        AnnotatorError, match=r"^a.jsonl:1: reward:.* gave response 1 the score nan"
    ) as raised:
        annotator.annotate(EXAMPLES)
    assert raised.value.exit_code == 6


def test_a_language_model_is_no_reward_model_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    causal = save_causal(tmp_path / "m")
    with pytest.raises(InputError, match=f"likelihood:{causal}"):
        reward(causal)
    with pytest.raises(InputError, match="such as a reward model"):
        likelihood(folder)


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


def test_nothing_is_left_behind(folder: Path) -> None:
    annotator = reward(folder)
    before, limits = torch.get_rng_state(), annotator.encoder.limits
    annotator.annotate(EXAMPLES)
    assert torch.equal(torch.get_rng_state(), before)
    assert annotator.encoder.limits == limits and isinstance(annotator.encoder, Encoder)
    assert not any(value.requires_grad for value in annotator.model.network.parameters())
    assert not annotator.model.network.training
