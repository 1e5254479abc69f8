"""What the demo runs: which method on which feedback, with settings that suit the world's small model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trueup import methods
from trueup.demo.world_policy import MAX_NEW_TOKENS, NOISE, PROMPTS
from trueup.methods import Method
from trueup.references.choices import TrustRegion

HELD_OUT = 512
"""Prompts that every policy is judged on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the demo's table."""

    method: Callable[[], Method[Any, Any, Any]]
    feedback: tuple[str, ...]
    """Names of files made by `write_feedback`; none for what gathers its own while it trains."""
    settings: Mapping[str, Any] = field(default_factory=dict)


BATCH_SIZE = 32
SETTINGS: Mapping[str, Any] = {
    "batch_size": BATCH_SIZE,
    "steps": 2 * PROMPTS // BATCH_SIZE,
    "learning_rate": 1e-3,
}

ONLINE: Mapping[str, Any] = {
    "source": "online",
    "prompts": f"world:prompts?count={2 * PROMPTS}&seed=1",
    "annotator.kind": "world",
    "annotator.noise": NOISE,
    "sampler.temperature": 1.0,
    "sampler.max_new_tokens": MAX_NEW_TOKENS,
}
"""The policy's own answers, judged while it trains, with the same annotator."""

PLAN: Mapping[str, Entry] = {
    "SFT": Entry(lambda: methods.sft(), ("demonstrations",), {"learning_rate": 2e-3, "steps": 64}),
    "DPO": Entry(lambda: methods.dpo(beta=0.1), ("rankings",)),
    "TR-DPO": Entry(
        lambda: methods.tr_dpo(beta=0.2, reference=TrustRegion(alpha=0.6, every=32)), ("rankings",)
    ),
    "RRHF": Entry(lambda: methods.rrhf(), ("rankings",), {"learning_rate": 2e-3}),
    "CA": Entry(lambda: methods.ca(condition=" score {reward}"), ("rankings",), {"steps": 512}),
    "KTO": Entry(lambda: methods.kto(beta=1.0, desirable_weight=2.2), ("points",)),
    "ULMA": Entry(lambda: methods.ulma(beta=0.1), ("demonstrations", "points")),
    "OAIF": Entry(
        lambda: methods.oaif(beta=0.5), (), {**ONLINE, "sampler.responses": 2, "learning_rate": 3e-3}
    ),
    "PPO": Entry(
        lambda: methods.ppo(kl_coef=0.05, kl_target=0.0),
        (),
        {**ONLINE, "sampler.responses": 2, "round_prompts": 2 * BATCH_SIZE, "round_passes": 2, "steps": 256},
    ),
}
"""By the name in the table. Every policy starts from the same model; SFT comes first, as the others are compared
with it."""
