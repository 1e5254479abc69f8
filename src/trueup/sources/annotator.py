"""The running annotator that a choice describes. Whatever an annotator needs is imported only where it is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trueup.settings.annotator_settings import (
    AnnotatorChoice,
    EndpointAnnotator,
    FunctionAnnotator,
    LikelihoodAnnotator,
    LocalAnnotator,
    RewardAnnotator,
    WorldAnnotator,
)

if TYPE_CHECKING:
    from trueup.annotators.annotator import Annotator

WORLD = "world"
"""As a model: the built-in one."""


def make_annotator(
    choice: AnnotatorChoice,
    *,
    seed: int = 0,
    device: str = "auto",
    trust_remote_code: bool = False,
    spent: Path | None = None,
) -> Annotator:
    """The annotator that a choice describes, ready to judge.

    Args:
        seed: of its noise, for those that are noisy on purpose.
        device: where a model computes: `auto`, `cpu` or `cuda`.
        spent: the file that keeps what an annotator with a budget takes, so that its limits hold over all sittings of a
            run; None counts this process alone.

    Raises:
        InputError: a model's folder, a template, a function or an instruction cannot be used.
        CheckpointError: what was spent cannot be read.
    """
    if isinstance(choice, LocalAnnotator | LikelihoodAnnotator) and choice.model == WORLD:
        from trueup.world.model import world_model_path

        choice = replace(choice, model=str(world_model_path()))
    match choice:
        case FunctionAnnotator():
            from trueup.annotators.function import load_scorer
            from trueup.annotators.scoring import ScoringAnnotator

            return ScoringAnnotator(load_scorer(choice.function), choice.function)
        case WorldAnnotator():
            from trueup.world.scorers import load_world_annotator

            return load_world_annotator(choice, seed=seed)
        case EndpointAnnotator():
            from trueup.annotators.endpoint import load_endpoint_annotator

            return load_endpoint_annotator(choice, spent=spent)
        case LocalAnnotator():
            from trueup.annotators.local import load_local_annotator

            return load_local_annotator(choice, device=device, trust_remote_code=trust_remote_code)
        case RewardAnnotator():
            from trueup.annotators.model_scores import load_reward_annotator

            return load_reward_annotator(choice, device=device, trust_remote_code=trust_remote_code)
        case LikelihoodAnnotator():
            from trueup.annotators.model_scores import load_likelihood_annotator

            return load_likelihood_annotator(choice, device=device, trust_remote_code=trust_remote_code)
