"""Whether a run's figures mean trouble, while it goes and at its end: what is seen, and what people do about it.
Figures of single steps are noisy, so that running means are looked at, and what only tells of change is measured
against its first value. Numbers only; the thresholds are settings (`WatchSettings`), with their reasons."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trueup.settings.run_settings import WatchSettings

SMOOTH = 4
LEAST_RESPONSES = 8  # of a round, below which it tells nothing of length and variety
LOWER = "Lower --learning_rate ten times, or raise --beta"
REMEDIES = {
    "drift": f"The policy no longer writes like its reference at all. {LOWER}, and go back to an earlier checkpoint",
    "sampled-drift": "Rewards are being gamed: read samples in examples.jsonl, raise the KL penalty, and go back to an "
    "earlier checkpoint",
    "margin": f"There is nothing left to learn from such pairs. {LOWER}",
    "chosen": f"{LOWER}, train for fewer steps, or add a supervised term (slic-hf, ulma)",
    "length": "Read samples in examples.jsonl: the reward or the judge favours a length, or ends are not learned. "
    "Raise the KL penalty or lower --learning_rate",
    "alike": "The policy has collapsed: begin again with a lower --learning_rate, a stronger KL penalty or a higher "
    "--sampler.temperature",
    "not-finite": f"Look at the rows of that step. {LOWER}",
    "gap": "Samples are not of the policy that is trained: see that the server has its weights, its tokenizer and its "
    "chat template, and computes in a like precision; or sample in process (--sampler.engine in-process)",
    "nothing": "Train for more steps or with a higher --learning_rate: ten times as much is usual for an adapter, more "
    "for a small model",
    "reward": "See that chosen and rejected are the right way round (trueup inspect), train on more pairs or longer, "
    "and do not train with its scores",
    "annotator": "What was learned is as good as chance: train a better reward model, and begin again",
}
"""Kind of trouble -> what people do about it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: str
    seen: str

    def __str__(self) -> str:
        return f"{self.seen}. {REMEDIES[self.kind]}"


@dataclass
class Watch:
    """What is remembered of a run's figures; all but the thresholds is in every checkpoint."""

    limits: WatchSettings
    recent: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    """Metrics that were not finite -> the step at which they last were."""
    told: list[str] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    """Log-probabilities, or scores, of the first responses before anything was learned."""

    def look(self, step: int, values: Mapping[str, float]) -> list[Trouble]:
        """Take in the figures of a step; what they mean that was not told before."""
        few = values.get("online/responses", LEAST_RESPONSES) < LEAST_RESPONSES
        for name, value in values.items():
            if not math.isfinite(value):
                self.broken[name] = step
            elif not (few and name.startswith("online/")):
                old = self.recent.setdefault(name, value)
                self.recent[name] = old + (value - old) / SMOOTH
                if name.startswith("online/"):
                    self.first.setdefault(name, value)
        found = [one for one in self.troubles() if one.kind not in self.told]
        self.told += [one.kind for one in found]
        return found

    def troubles(self) -> Iterator[Trouble]:
        recent, limits = self.recent, self.limits
        if abs(drift := recent.get("drift", 0.0)) > limits.drift:
            yield Trouble("drift", f"the log-ratio to the reference is {drift:.3g} nats a token")
        sampled = recent.get("objective/kl", 0.0) / max(recent.get("online/tokens", math.inf), 1.0)
        if abs(sampled) > limits.sampled_drift:
            yield Trouble("sampled-drift", f"the KL divergence to the reference is {sampled:.3g} nats a token sampled")
        if abs(margin := recent.get("rewards/margins", 0.0)) > limits.margin:
            yield Trouble("margin", f"chosen and rejected responses are {margin:.3g} apart in reward")
        if (chosen := recent.get("drift/chosen", 0.0)) < -limits.chosen:
            yield Trouble("chosen", f"chosen responses are {-chosen:.3g} nats a token below the reference")
        for name in ("online/tokens", "online/words"):
            before, now = self.first.get(name, 0.0), recent.get(name, 0.0)
            if before and not before / limits.length <= now <= before * limits.length:
                unit = name.partition("/")[2]
                yield Trouble("length", f"responses have {now:.3g} {unit}, and had {before:.3g} at first")
                break
        before, now = self.first.get("online/distinct", 0.0), recent.get("online/distinct", 1.0)
        if now < before * limits.distinct:
            yield Trouble("alike", f"{now:.0%} of the responses differ from each other, and {before:.0%} did at first")
        if (gap := recent.get("online/gap", 0.0)) > limits.gap:
            yield Trouble("gap", f"sampler and trainer give the same tokens log-probabilities {gap:.3g} nats apart")
        if self.broken:
            steps = [f"{name} at step {step}" for name, step in self.broken.items()]
            yield Trouble("not-finite", f"figures are not finite: {', '.join(steps)}")

    def unmoved(self, now: list[float]) -> Trouble | None:
        """Whether nothing was learned, by the log-probabilities or scores of the first responses as they are now."""
        moved = [abs(one - other) for one, other in zip(self.begun, now, strict=True)]
        known = [abs(self.recent.get(name, 0.0)) for name in ("kl", "objective/kl", "policy/approxkl")]
        most = max([math.fsum(moved) / max(len(moved), 1), *known])
        if most >= self.limits.moved:
            return None
        return Trouble("nothing", f"nothing was learned: no log-probability or score moved by more than {most:.1g}")

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "limits"}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        for name, value in state.items():
            setattr(self, name, type(value)(value))
