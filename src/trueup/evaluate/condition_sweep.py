"""Which reward a model of conditional alignment answers best to: several are asked for, and their answers scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import sub
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from trueup import display, errors, estimates, files, model_folder, words
from trueup.annotators.annotator import Scorer
from trueup.batch import chat_template, encode
from trueup.evaluate import side_by_side
from trueup.feedback.condition import FILE, Condition
from trueup.feedback.records import Prompt
from trueup.models import causal, load, prepare
from trueup.sampling import decoding, sampler
from trueup.settings.gathering_settings import SamplerSettings

BATCH_SIZE = 64
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Trial:
    """A reward that was asked for, and of the answers, by prompt, the scores, the tokens without the end of sequence,
    and the share that the model ended itself."""

    condition: Condition
    scores: tuple[float, ...]
    lengths: tuple[int, ...]
    ended: float

    @property
    def score(self) -> estimates.Mean:
        return estimates.mean(self.scores)

    @property
    def length(self) -> estimates.Mean:
        return estimates.mean(self.lengths)


@dataclass(frozen=True, slots=True)
class Sweep:
    trials: tuple[Trial, ...]
    left_out: int

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.score.value)

    @property
    def gain(self) -> estimates.Mean:
        """By how much the best is better than what is asked for now, prompt by prompt."""
        return estimates.mean(list(map(sub, self.best.scores, self.trials[0].scores)))

    @property
    def reliable(self) -> bool:
        """Whether it gains more than twice the standard error: the best of several may be chance."""
        return self.gain.value > 2 * self.gain.error  # never for a single prompt, whose error is not a number

    def verdict(self, model: str, *, keep: bool) -> str:
        best, now = self.best.condition.reward, self.trials[0].condition.reward
        if self.best == self.trials[0]:
            return f"the model asks for the best already: {now:.4g}"
        gain = f"better than {now:.4g} by {self.gain.shown(3)}"
        if not keep:
            return f"{best:.4g} is {gain}; nothing was written"
        if self.reliable:
            return f"{model} asks for {best:.4g} from now on: {gain}"
        return f"{best:.4g} is {gain}, less than twice its standard error:\nnothing was written; more prompts tell more"

    def as_json(self) -> dict[str, Any]:
        trials = [
            {"reward": one.condition.reward, "words": one.condition.words(), "score": one.score.as_json(),
             "length": one.length.as_json(), "ended": one.ended}
            for one in self.trials
        ]  # fmt: skip
        return {
            "prompts": len(self.trials[0].scores), "asked_until_now": self.trials[0].condition.reward,
            "best": self.best.condition.reward, "gain": self.gain.as_json(), "trials": trials,
        }  # fmt: skip


def print_table(swept: Sweep) -> None:
    table = side_by_side.table("asked for", "written as", "mean reward", "length", "")
    for one in sorted(swept.trials, key=lambda trial: trial.condition.reward):
        marks = ", ".join(["best"] * (one == swept.best) + ["now"] * (one == swept.trials[0]))
        written = f"{one.condition.reward:.4g}", repr(one.condition.words())
        style = "bold" if one == swept.best else None
        table.add_row(*written, one.score.shown(3), one.length.shown(1), marks, style=style)
    console = Console(highlight=False, emoji=False, markup=False)
    console.print(table, "+- one standard error; length in tokens; now: asked for so far", sep="\n")


def usual_rewards(condition: Condition) -> tuple[float, ...]:
    return (condition.highest, 2.0, 5.0, 0.0)


def conditions(condition: Condition, rewards: Sequence[float]) -> tuple[Condition, ...]:
    """What to try: the condition as it is, and then each reward, those that give the same words once."""
    every = [condition, *map(condition.asking_for, rewards)]
    first = {one.words(): one for one in reversed(every)}
    return tuple(one for one in every if first[one.words()] is one)


def sweep_model(
    model: str, now: Condition, rewards: Sequence[float] | None, prompts: Sequence[Prompt], scorer: Scorer, *,
    seed: int, max_new_tokens: int | None,
) -> Sweep:  # fmt: skip
    """Load a model and try rewards; None takes the usual ones, but for those that its tokenizer cannot write."""
    loaded = load.load(model, device=prepare.pick_device("auto"))
    tried = []
    for one in conditions(now, usual_rewards(now) if rewards is None else rewards):
        unknown = encode.unknown_words(one.words(), loaded.tokenizer)
        if not unknown or one == now:
            tried.append(one)
        elif rewards is not None:
            lacks = f"the model's tokenizer lacks {', '.join(map(repr, unknown))}"
            raise errors.InputError(f"--candidates: {one.reward:g} is written {one.words()!r}, and {lacks}")
    prepare.set_threads(loaded.network, len(prompts))
    swept = sweep(loaded, prompts, scorer, tried, seed=seed, max_new_tokens=max_new_tokens)
    if left := swept.left_out:
        words.logger.warning(f"{left} of {len(prompts)} prompts are too long for the model and were left out")
    return swept


def sweep(
    loaded: load.Loaded, prompts: Sequence[Prompt], scorer: Scorer, tried: Sequence[Condition], *,
    seed: int = 0, max_new_tokens: int | None = None,
) -> Sweep:  # fmt: skip
    """One answer to each prompt under each condition, all drawn with one seed, and its score."""
    positions = model_folder.context_length(loaded.network.config) or 10**9
    longest = sampler.longest_response(max_new_tokens, positions)
    if longest >= positions:
        why = f"leaves no room for a prompt: the model was made for {positions} positions"
        raise errors.InputError(f"max_new_tokens {longest} {why}. Give a smaller one")
    encoded, day, limits = [], chat_template.today(), encode.Limits(positions)
    if chat_template.writes_date(loaded.tokenizer):
        words.logger.info(f"the chat template writes the date: here it is {day}")
    for condition in tried:
        given: dict[str, Any] = {"end_ids": loaded.end_ids, "limits": limits, "date": day}
        encoder = encode.Encoder(loaded.tokenizer, condition=condition, **given)
        own = (sampler.encode_prompt(one, encoder, positions=None, max_new_tokens=longest) for one in prompts)
        encoded.append([one.ids if one and one.room == longest else None for one in own])
    fitting = [at for at, row in enumerate(zip(*encoded, strict=True)) if all(row)]
    if not fitting:
        left = f"{positions - longest} tokens that are left beside {longest} for the answer"
        raise errors.InputError(f"all {len(prompts)} prompts are longer than the {left}. Give fewer --max-new-tokens")
    model, trials = causal.CausalModel(loaded.network), []
    for condition, row in display.track(zip(tried, encoded, strict=True), "asking", len(tried)):
        with model.plain() as network:
            completions = decoding.draw(
                decoding.Decoder(network, loaded.end_ids, len(loaded.tokenizer), BATCH_SIZE),
                [ids for at in fitting if (ids := row[at])],
                settings=SamplerSettings(max_new_tokens=longest),
                generator=torch.Generator().manual_seed(seed),
            )
        texts = [str(loaded.tokenizer.decode(one.ids, skip_special_tokens=True)) for one in completions]
        scores = scorer([prompts[at].content for at in fitting], texts)
        ended = sum(one.ended for one in completions) / len(completions)
        trials.append(Trial(condition, tuple(scores), tuple(len(one.ids) for one in completions), ended))
    return Sweep(tuple(trials), len(prompts) - len(fitting))


def keep(folder: Path, before: Condition, after: Condition) -> None:
    """Write what a model asks for from now on into its folder, and into its model card, where `trueup.training.export`
    wrote that sentence; another card is left as it is."""
    try:
        after.save(folder)
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.exists() else ""
        mended = text.replace(f"Write `{before.words()}` at", f"Write `{after.words()}` at")
        if mended != text:
            with files.replaced_file(card) as file:
                file.write(mended.encode())
    except (OSError, UnicodeDecodeError) as error:
        why = f"{words.reason(error)}. Make room or mend the rights, or give --dry-run"
        raise errors.InputError(f"{folder / FILE} cannot be written: {why}") from error
