"""A model in this process as a judge reads what the library computes: the next token after the question, and of it
the two labels."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.refusals import refused
from support.tiny_models import CHATML, EOS, HYBRID, SPECIAL, char_tokenizer, save_tiny_model, toy_network
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from trueup.annotators.judge import Question, Unreadable, Verdict
from trueup.annotators.local import NOT_FINITE, LocalJudge, answer_tokens, load_local_annotator
from trueup.annotators.template import pose
from trueup.batch.encode import Encoder, Limits
from trueup.batch.pieces import PieceEncoder
from trueup.errors import AnnotatorError
from trueup.feedback.records import Example, Prompt, Response
from trueup.models.causal import CausalModel
from trueup.settings.annotator_kinds import LocalAnnotator

SHORT = "{{ instruction or 'Which?' }}\n{{ prompt }}\n1 {{ first }}\n2 {{ second }}\nAnswer="
QUESTIONS = [Question(text) for text in ("Which is it?=", "Another, which is longer.\nYes or no=", "x")]


@pytest.fixture
def template(tmp_path: Path) -> str:
    path = tmp_path / "short.jinja"
    path.write_text(SHORT)
    return str(path)


def example(prompt: str, *responses: str) -> Example:
    return Example(Prompt(prompt), tuple(map(Response, responses)))


def judge(network: Any, tokenizer: Any, longest: int = 512) -> LocalJudge:
    encoder = Encoder(tokenizer, end_ids=(EOS,), limits=Limits(longest))
    return LocalJudge(CausalModel(network), encoder, name="toy")


def random_judge(tokenizer: Any, longest: int = 512, seed: int = 0) -> LocalJudge:
    return judge(toy_network(seed=seed, vocab_size=len(tokenizer)), tokenizer, longest)


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
        first, both = plain_first(local.model.network, ids, *([tokenizer.convert_tokens_to_ids(n)] for n in "12"))
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
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", bos_token="<bos>")


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
    with refused(f"does not write '{labels[0]}' and '{labels[1]}' as one token each"):
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


def test_a_question_that_is_too_long_cannot_be_read_and_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
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
    monkeypatch.setattr("trueup.annotators.local.JUDGE_TOKENS", 30)
    small = random_judge(char_tokenizer()).ask(questions).verdicts
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
    """Its probabilities are the library's; in the other order they are the same to the bit."""
    before = torch.get_rng_state()
    choice = LocalAnnotator(str(tiny_model), template=template, instruction="Prefer the green one.")
    made = load_local_annotator(choice, device="cpu")
    pairs = [("a pear", "an apple"), ("yes", "no"), ("", "something")]
    forward = made.annotate([example("What?", *pair) for pair in pairs]).examples
    backward = made.annotate([example("What?", *pair[::-1]) for pair in pairs]).examples
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    network = AutoModelForCausalLM.from_pretrained(tiny_model)
    labels = [[tokenizer.convert_tokens_to_ids(n)] for n in "12"]

    def share(first: str, second: str) -> float:
        question = pose(made.template, Prompt("What?"), first, second, instruction=made.instruction)
        talk = [{"role": "user", "content": question.text}]
        ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        return plain_first(network, ids, *labels)[0]

    for pair, one, other in zip(pairs, forward, backward, strict=True):
        assert isinstance(one, Example) and isinstance(other, Example)
        (ours,), (theirs,) = one.comparisons, other.comparisons
        assert (ours.better, ours.worse) == (theirs.worse, theirs.better)
        assert ours.probability == theirs.probability
        probability = (share(*pair) + 1 - share(*pair[::-1])) / 2
        assert ours.better == (0 if probability > 0.5 else 1)
        assert ours.probability == pytest.approx(max(probability, 1 - probability), abs=1e-5)
    assert made.name == str(tiny_model) and made.gives == "comparisons"
    assert (made.instruction, made.template.name) == ("Prefer the green one.", template)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in made.judge.model.network.parameters())  # type: ignore[attr-defined]


def test_a_model_whose_state_is_sequential_is_judged_through_a_copied_cache(tmp_path: Path, template: str) -> None:
    tokenizer = char_tokenizer()
    network = toy_network(HYBRID, vocab_size=len(tokenizer))
    network.save_pretrained(tmp_path / "hybrid")
    tokenizer.save_pretrained(tmp_path / "hybrid")
    made = load_local_annotator(LocalAnnotator(str(tmp_path / "hybrid"), template=template))
    local = made.judge
    assert isinstance(local, LocalJudge)
    assert local.model.attention == "forked"
    labels = [[tokenizer.convert_tokens_to_ids(n)] for n in "12"]
    for question, verdict in zip(QUESTIONS, local.ask(QUESTIONS).verdicts, strict=True):
        assert isinstance(verdict, Verdict)
        expected, _ = plain_first(network, tokenizer(question.text).input_ids, *labels)
        assert verdict.first == pytest.approx(expected, abs=1e-4)


def test_a_template_too_long_for_the_model_stops_the_run(tiny_model: Path) -> None:
    """The model has 512 positions and a token for each character."""
    examples = [example("What?", str(n), "b") for n in range(10)]
    with pytest.raises(AnnotatorError, match=r"20 of 20 verdicts .*longer than the 512 tokens that the model"):
        load_local_annotator(LocalAnnotator(str(tiny_model))).annotate(examples)
    patient = load_local_annotator(LocalAnnotator(str(tiny_model), max_unreadable=1.0))
    assert patient.annotate(examples).totals["unreadable"] == 20


def test_what_cannot_judge_is_refused_with_its_name(tmp_path: Path, tiny_model: Path) -> None:
    with refused(r"template nothing: no such file"):
        load_local_annotator(LocalAnnotator(str(tiny_model), template="nothing"))
    with refused(r"none: no model's configuration that can be loaded"):
        load_local_annotator(LocalAnnotator(str(tmp_path / "none")))
    folder = save_tiny_model(tmp_path / "wordless", tokenizer=spaced_tokenizer(plain="x="))
    with refused(r"wordless: the tokenizer does not write '1' and '2' as one token each"):
        load_local_annotator(LocalAnnotator(str(folder)))
