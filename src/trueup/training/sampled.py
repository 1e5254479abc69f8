"""What a run's policy writes while it trains: scored or judged against the start model, how far from it, how long.
Prompts are held out (`eval_prompts`). What is sampled is a function of the weights, the seed and the step, so that a
run that is resumed measures what one that was not interrupted does."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from trueup import errors, estimates, files
from trueup.annotators import annotator, comparing
from trueup.batch.encode import Encoder
from trueup.config.run_checks import PROMPTS, check_annotator, check_feedback
from trueup.feedback import canonical, records
from trueup.models.causal import CausalModel
from trueup.parallel.processes import owned
from trueup.references import build, choices, reference
from trueup.sampling import engines
from trueup.sampling.sampler import another_seed
from trueup.settings import annotator_settings, run_settings
from trueup.sources import by_name, online, rollouts
from trueup.training import data, rounds

START = "start_responses.jsonl"
NUMBER = 7  # that makes the seed of what is sampled here another than that of rounds


@dataclass(frozen=True)
class SampledEvaluation:
    """Measures the policy as it is: one response to each prompt, against the start model."""

    collector: online.Collector
    annotator: annotator.Annotator | None
    prompts: Sequence[records.Prompt]
    encoder: Encoder
    policy: CausalModel
    start: reference.Reference
    file: Path
    budget: int

    def measure(self, step: int) -> dict[str, float]:
        """Metrics of the policy after a step; `eval_wins` counts a tie by half and leaves out what is not known."""
        self.collector.sampler.weights.refresh(step)
        made = self._written(step)
        words = [len(str(one.responses[0].content).split()) for one in made]
        values = {"eval_words": fmean(words), "eval_tokens": fmean(len(one.responses[0].tokens or ()) for one in made)}
        values |= self._divergence(made)
        return values if self.annotator is None else values | self._judged(made, self._started(step, made))

    def keep_start(self) -> None:
        """What the start model writes, again where the file is gone; the policy is still as the run began with it."""
        if self.annotator is not None and not owned(self.file.exists):
            self.collector.sampler.weights.refresh(0)
            self._started(0, self._written(0))

    def _written(self, step: int) -> list[records.Example]:
        seed = another_seed(self.collector.seed, NUMBER) + step
        found = [
            records.Example(prompt, (records.Response(one.text, tokens=one.ids),))
            for prompt, several in zip(self.prompts, self.collector.sampled(self.prompts, seed), strict=True)
            for one in several[:1]
        ]
        if not found:
            raise errors.InputError("eval_prompts: none of them leaves room for a response; give shorter ones")
        return found

    def _divergence(self, made: Sequence[records.Example]) -> dict[str, float]:
        """Mean log-ratio of the responses to the start model, with its standard error."""
        ratios = rollouts.log_ratios(made, self.encoder, self.policy, self.start, self.budget)
        found = estimates.mean([ratio for (ratio,) in ratios.values()])
        known = {"eval_sequence_kl": found.value, "eval_sequence_kl_error": found.error}
        return {name: value for name, value in known.items() if value == value}

    def _started(self, step: int, made: Sequence[records.Example]) -> list[records.Example]:
        """What the start model wrote to the same prompts, which is written down before the first step."""

        def read() -> list[records.Example]:
            if step == 0:
                with files.of_run(self.file):
                    canonical.write_examples(self.file, made)
                return list(made)
            try:
                rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
                return [canonical.example_from_row(row, records.Origin(START, at)) for at, row in enumerate(rows, 1)]
            except (OSError, ValueError, errors.InputError) as error:
                raise errors.CheckpointError(
                    f"{self.file}: what the start model wrote cannot be read: {error}. Restore the file, or begin a "
                    "new run"
                ) from error

        found = owned(read)
        if len(found) != len(made):
            raise errors.CheckpointError(f"{self.file} holds {len(found)} responses to {len(made)} prompts")
        return found

    def _judged(self, made: Sequence[records.Example], started: Sequence[records.Example]) -> dict[str, float]:
        both = [
            records.Example(one.prompt, tuple(records.Response(said.responses[0].content) for said in (one, other)))
            for one, other in zip(made, started, strict=True)
        ]
        judge = self.annotator
        assert judge is not None
        same = [one.responses[0] == one.responses[1] for one in both]
        compares = judge.gives == "comparisons"
        posed = [one for one, equal in zip(both, same, strict=True) if not (compares and equal)]
        judged = iter(owned(lambda: judge.annotate(posed)).examples)
        wins, scores = [], []
        for equal in same:
            said = None if compares and equal else next(judged)
            if said is None:
                wins.append(0.5)
            elif isinstance(said, records.Discarded):
                wins += [0.5] if said.reason == comparing.TIE else []
            elif compares:
                wins.append(float(said.comparisons[0].better == 0))
            else:
                first, second = records.scores_of([said])
                scores.append(first)
                wins.append(((first > second) + (first >= second)) / 2)
        found = {"eval_wins": wins, "eval_score": scores}
        return {name: fmean(values) for name, values in found.items() if values}


def read_eval_prompts(
    settings: run_settings.RunSettings, training: Sequence[records.Prompt]
) -> tuple[records.Prompt, ...]:
    """The prompts to measure on, and who judges is seen to be there; before a model is loaded.
    Those that are trained on, too, are warned of."""
    if not settings.eval_prompts:
        return ()
    for name in settings.eval_prompts:
        if not name.startswith("world:"):
            check_feedback(name, PROMPTS)
    if settings.eval_choice is not None:
        with annotator_settings.called("eval_by" if settings.eval_by else "annotator"):
            check_annotator(settings.eval_choice, trust_remote_code=settings.trust_remote_code)
    found = by_name.prompts_named(settings.eval_prompts, settings, chat=settings.chat).prompts
    if not found:
        raise errors.InputError(f"eval_prompts {', '.join(settings.eval_prompts)}: no prompt is there; give some")
    examples = [records.Example(one, (records.Response(""),)) for one in found]
    by_name.check_overlap(training, examples, allowed=True)
    return tuple(found)


def make_sampled(parts: data.Parts, prompts: Sequence[records.Prompt]) -> SampledEvaluation:
    """What measures a run's policy on prompts; the policy is as the run begins with it."""
    settings, policy = parts.settings, parts.policy
    if not isinstance(policy, CausalModel):
        raise errors.InputError(f"eval_prompts: method {parts.method.name} trains a model that only scores")
    encoder = data.asking_encoder(parts.loaded, settings)
    kept, _ = rounds.with_room(prompts, encoder)
    alone = settings.sampler.model_copy(
        update={"engine": "in-process", "models": (), "resync": 1, "decode": "sample", "responses": 1}
        | {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": ()}
    )
    judge = None
    if settings.eval_choice is not None:
        judge = by_name.make_annotator(
            settings.eval_choice, seed=settings.seed, device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            usage_file=parts.folder.usage.with_name("spent-eval.json"),
        )  # fmt: skip
    start, adapted = parts.reference, parts.loaded.starts_from_adapter
    if parts.method.reference.kind not in ("frozen", "adapter-off"):
        start = build.build(choices.Frozen(), policy, starts_from_adapter=adapted, offline=False)
    sampler = engines.make_engine(alone, policy, encoder, name="policy")
    # its own annotator is asked about pairs with the start model's responses, not through the collector
    collector = online.Collector(sampler, judge, 1, settings.seed)  # type: ignore[arg-type]
    file = parts.folder.path / START
    return SampledEvaluation(collector, judge, kept, encoder, policy, start, file, settings.micro_batch_tokens)
