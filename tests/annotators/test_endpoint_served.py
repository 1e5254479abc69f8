"""A judge on a real server: `transformers serve` with a model that is made to answer 1, whatever it is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.real_server import NEEDED, serving
from support.tiny_models import CHARACTERS, CHATML, EOS, SPECIAL, char_tokenizer, save_tiny_model
from transformers import AutoModelForCausalLM

from trueup.annotators.endpoint import load_endpoint_annotator
from trueup.errors import AnnotatorError
from trueup.feedback.records import Discarded, Example, Prompt, Response
from trueup.settings.annotator_kinds import EndpointAnnotator

EXAMPLES = [
    Example(Prompt(f"Prompt {number}"), (Response("Short"), Response("A longer response"))) for number in range(3)
]
pytestmark = NEEDED


def save_judge(folder: Path) -> Path:
    """A model that writes 1 after anything but a 1, and ends after a 1: only its embeddings reach its head."""
    save_tiny_model(folder, tokenizer=char_tokenizer(chat_template=CHATML), max_position_embeddings=4096)
    network = AutoModelForCausalLM.from_pretrained(folder)
    one = len(SPECIAL) + CHARACTERS.index("1")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "embed_tokens.weight", "lm_head.weight")):
                weight.zero_()
        embedded = network.get_input_embeddings().weight
        embedded[:, 0], embedded[one, 0], embedded[one, 1] = 1.0, 0.0, 1.0
        network.lm_head.weight[one, 0], network.lm_head.weight[EOS, 1] = 10.0, 10.0
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of the judge and the address of a server that has it."""
    folder = save_judge(tmp_path_factory.mktemp("judge"))
    with serving(folder, tmp_path_factory.mktemp("served") / "log") as url:
        yield folder, url


def test_a_judge_that_always_says_first_gives_a_half(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    """This server gives no log-probabilities, which is said, and counts tokens, which is believed."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path))
    choice = EndpointAnnotator(base_url=served[1], model=str(served[0]), concurrency=2)
    annotated = load_endpoint_annotator(choice).annotate(EXAMPLES)
    assert all(isinstance(example, Discarded) for example in annotated.examples)
    totals = annotated.totals
    assert (totals["verdicts"], totals["unreadable"], totals["first"], totals["ties"]) == (6, 0, 6, 3)
    assert totals["requests"] == 7  # one found out that there are no log-probabilities
    assert totals["estimated"] == 0
    assert totals["tokens"] > 6 * 1000  # a token a character
    assert len(told) == 1
    assert "gives no log-probabilities" in told[0]
    again = load_endpoint_annotator(choice).annotate(EXAMPLES)
    assert (again.totals["cached"], again.totals["requests"], again.totals["first"]) == (6, 0, 6)


def test_a_model_that_the_server_does_not_have(served: tuple[Path, str]) -> None:
    """This server refuses each question by itself."""
    examples = [
        Example(Prompt(f"{example.prompt.content} {n}"), example.responses) for example in EXAMPLES for n in range(4)
    ]
    choice = EndpointAnnotator(base_url=served[1], model="no/such-model", cache=False)
    with pytest.raises(AnnotatorError, match=r"24 of 24 verdicts .* the endpoint refused the question: 400"):
        load_endpoint_annotator(choice).annotate(examples)
