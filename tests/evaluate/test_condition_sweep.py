"""Several rewards are asked for with the same prompts and the same chance, and the best is found."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.refusals import refused
from support.tiny_models import save_tiny_model

from trueup.batch.encode import Encoder, Limits
from trueup.evaluate import condition_sweep
from trueup.feedback.condition import Condition, read_condition
from trueup.feedback.records import Content, Message, Origin, Prompt
from trueup.models.causal import CausalModel
from trueup.models.load import Loaded, load
from trueup.sampling.decoding import Decoder, draw
from trueup.settings.gathering_settings import SamplerSettings

NOW = Condition(" [{reward}]", 1, "end", 1.0, highest=2.04, lowest=-2.0)
PROMPTS = [Prompt(f"say {number}", origin=Origin("a.jsonl", number)) for number in range(70)]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(str(save_tiny_model(tmp_path_factory.mktemp("model"))), device=torch.device("cpu"))


def length(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
    return [float(len(response)) for response in responses]


def test_what_gives_the_same_words_is_tried_once() -> None:
    """1.04 is written 1.0, as what is asked for now; 2.04 and 2 are both 2.0."""
    tried = condition_sweep.conditions(NOW, (1.04, *condition_sweep.usual_rewards(NOW)))
    assert tried[0] is NOW
    assert [one.reward for one in tried] == [1.0, 2.04, 5.0, 0.0]
    assert all(replace(one, reward=1.0) == NOW for one in tried)


def trial(reward: float, *scores: float) -> condition_sweep.Trial:
    return condition_sweep.Trial(NOW.asking_for(reward), scores, (3, 5), 1.0)


def test_the_best_has_the_highest_mean_and_stands_first_among_equals() -> None:
    made = condition_sweep.Sweep((trial(1, 0, 4), trial(2, 3, 3), trial(3, 4, 2)), 0)
    assert made.best is made.trials[1]
    assert (made.gain.value, made.gain.error, made.gain.count) == (1.0, 2.0, 2)
    assert made.trials[0].length.value == 4
    level = condition_sweep.Sweep((trial(1, 0, 4), trial(2, 4, 0)), 0)
    assert level.best is level.trials[0] and level.gain.value == 0


def test_the_table_shows_a_condition_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """What a model's folder says is no markup and does not steer the terminal."""
    shown = replace(trial(1.0, 0.5, 0.7), condition=Condition("[/b]\x1b[2J {reward}", 1, "end", 1.0))
    condition_sweep.print_table(condition_sweep.Sweep((shown, shown), 0))
    said = capsys.readouterr().out
    assert r"'[/b]\x1b[2J 1.0'" in said and "\x1b" not in said


def test_every_condition_is_asked_with_the_same_seed(loaded: Loaded) -> None:
    """The answers are those of one draw for each condition, from a generator of the seed, 64 prompts at a time."""
    tried = condition_sweep.conditions(NOW, (2.0, 0.0))
    seen: list[tuple[tuple[Content, ...], tuple[str, ...]]] = []

    def scorer(prompts: Sequence[Content], responses: Sequence[str]) -> list[float]:
        seen.append((tuple(prompts), tuple(responses)))
        return length(prompts, responses)

    found = condition_sweep.sweep(loaded, PROMPTS, scorer, tried, seed=3, max_new_tokens=5)
    assert found.left_out == 0
    assert len({responses for _, responses in seen}) > 1
    for (prompts, responses), made, condition in zip(seen, found.trials, tried, strict=True):
        assert prompts == tuple(prompt.content for prompt in PROMPTS)
        assert made.condition == condition
        encoder = Encoder(loaded.tokenizer, end_ids=loaded.end_ids, limits=Limits(512), condition=condition)
        with CausalModel(loaded.network).plain() as network:
            drawn = draw(
                Decoder(network, loaded.end_ids, batch_size=64),
                [encoder.prompt_ids(prompt) for prompt in PROMPTS],
                settings=SamplerSettings(max_new_tokens=5),
                generator=torch.Generator().manual_seed(3),
            )
        expected = tuple(loaded.tokenizer.decode(one.ids, skip_special_tokens=True) for one in drawn)
        assert responses == expected
        assert made.scores == tuple(map(float, map(len, expected)))
        assert made.lengths == tuple(len(one.ids) for one in drawn)
        assert made.ended == sum(one.ended for one in drawn) / len(drawn)
    other = condition_sweep.sweep(loaded, PROMPTS, length, tried[:1], seed=4, max_new_tokens=5)
    assert other.trials[0].lengths != found.trials[0].lengths or other.trials[0].scores != found.trials[0].scores
    again = condition_sweep.sweep(loaded, PROMPTS, length, tried, seed=3, max_new_tokens=5)
    assert again == found


def test_prompts_that_leave_no_room_for_an_answer_are_left_out_under_every_condition(tmp_path: Path) -> None:
    """16 positions, 4 of them for the answer: <bos>, the prompt and ` [2.0]` or ` [10.0]` have 12."""
    small = load(str(save_tiny_model(tmp_path, max_position_embeddings=16)), device=torch.device("cpu"))
    prompts = [Prompt("x" * count) for count in (3, 4, 5, 6)]
    tried = condition_sweep.conditions(NOW, (2.0,))
    found = condition_sweep.sweep(small, prompts, length, tried, max_new_tokens=4)
    assert (found.left_out, len(found.trials[0].scores)) == (1, 3)
    found = condition_sweep.sweep(small, prompts, length, condition_sweep.conditions(NOW, (10.0,)), max_new_tokens=4)
    assert (found.left_out, len(found.trials[0].scores), len(found.trials[1].scores)) == (2, 2, 2)
    with refused(r"all 1 prompts are longer than the 12 tokens .* beside 4"):
        condition_sweep.sweep(small, prompts[3:], length, tried, max_new_tokens=4)
    with refused(r"longer than the 8 tokens .* beside 8"):
        condition_sweep.sweep(small, prompts, length, tried)


def test_a_prompt_that_cannot_be_expressed_is_named(loaded: Loaded) -> None:
    prompts = [PROMPTS[0], Prompt((Message("system", "Be brief."),), origin=Origin("a.jsonl", 7))]
    with refused(r"a\.jsonl:7: a condition cannot be written"):
        condition_sweep.sweep(loaded, prompts, length, [NOW])


CARD = "# A model\n\nWrite ` [1.0]` at the\nend of every prompt.\n\n    Write ` [1.0]` and more\n"


def test_what_is_kept_is_in_the_condition_and_in_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD)
    NOW.save(tmp_path)
    condition_sweep.keep(tmp_path, NOW, NOW.asking_for(2.0))
    assert read_condition(tmp_path) == NOW.asking_for(2.0)
    expected = "# A model\n\nWrite ` [2.0]` at the\nend of every prompt.\n\n    Write ` [1.0]` and more\n"
    assert (tmp_path / "README.md").read_text() == expected
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "condition.json"}


def test_a_model_without_a_card_is_left_without_one(tmp_path: Path) -> None:
    condition_sweep.keep(tmp_path, NOW, NOW.asking_for(2.0))
    assert [path.name for path in tmp_path.iterdir()] == ["condition.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with refused(r"none/condition\.json cannot be written: No such file or directory"):
        condition_sweep.keep(tmp_path / "none", NOW, NOW.asking_for(2.0))
