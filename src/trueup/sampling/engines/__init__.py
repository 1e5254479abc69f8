"""What computes responses, the sampler that settings ask for, and several models that write beside each other.
Each file here is a value of `sampler.engine`, and has a function or class `make`: called with the arguments of
`make_engine`, it gives a sampler. One that asks a server says `SERVED = True`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module

from trueup.batch.encode import Encoder
from trueup.feedback.records import Prompt
from trueup.model_folder import folder_of
from trueup.models import causal, load
from trueup.parallel.processes import owned
from trueup.sampling.decoding import Mixture
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.sampling.sampler import Sampled, Sampler, another_seed
from trueup.settings.gathering_settings import SamplerSettings


def make_sampler(
    settings: SamplerSettings, model: causal.CausalModel, encoder: Encoder, *, name: str,
    trust_remote_code: bool = False, mixture: Mixture | None = None,
) -> Sampler:  # fmt: skip
    """A sampler that writes with the policy, and with `settings.models` or a mixture with its reference beside it."""
    policy = make_engine(settings, model, encoder, name=name)
    if mixture is not None:
        opponent = InProcessSampler(settings, model, encoder, name=f"{name} and its reference")
        opponent.over, opponent.weights = mixture.over, policy.weights
        return SeveralSamplers(policy, encoder, [(opponent, encoder)])
    if not settings.models:
        return policy
    alone = settings.model_copy(update={"engine": "in-process", "models": (), "resync": 1})
    dtype = model.autocast or next(model.network.parameters()).dtype  # the policy computes in it
    others = []
    for path in settings.models:
        loaded = load.load(folder_of(path), device=model.device, dtype=dtype, trust_remote_code=trust_remote_code)
        other = causal.CausalModel(loaded.network.requires_grad_(False).eval())
        its_encoder = Encoder(
            loaded.tokenizer, end_ids=loaded.end_ids, limits=encoder.limits, condition=loaded.condition,
            date=encoder.template.date,
        )  # fmt: skip
        others.append((make_engine(alone, other, its_encoder, name=path), its_encoder))
    return SeveralSamplers(policy, encoder, others)


def make_engine(
    settings: SamplerSettings, model: causal.CausalModel | None, encoder: Encoder | None, *, name: str
) -> Sampler:
    """A sampler of one model, made by the file here that settings name; a server may have model and encoder alone."""
    module = import_module(f"{__name__}.{settings.engine.replace('-', '_')}")
    sampler: Sampler = module.make(settings, model, encoder, name=name)
    return sampler


class SeveralSamplers:
    """Asks each, and puts the policy's responses first, as RRHF samples from several models (Yuan et al., 2023,
    https://arxiv.org/abs/2304.05302). The policy alone is refreshed and saved."""

    def __init__(self, policy: Sampler, encoder: Encoder, others: Sequence[tuple[Sampler, Encoder]]) -> None:
        self.policy, self.weights, self.served = policy, policy.weights, policy.served
        words, ends = encoder.tokenizer.get_vocab(), set(encoder.end_ids)
        same = [one.tokenizer.get_vocab() == words and set(one.end_ids) <= ends for _, one in others]
        self.others = [(sampler, own) for (sampler, _), own in zip(others, same, strict=True)]
        """With whether ids of theirs say the same to the policy, and end a response there too."""

    def sample(self, prompts: Sequence[Prompt], responses: int, *, seed: int) -> list[tuple[Sampled, ...]]:
        """As many responses of each model; token ids where the policy has the same, log-probabilities never."""
        found = self.policy.sample(prompts, responses, seed=seed)
        for number, (sampler, same) in enumerate(self.others, start=1):
            ask = partial(sampler.sample, prompts, responses, seed=another_seed(seed, number))
            written = owned(ask) if self.served else ask()
            for at, several in enumerate(written):
                own = ((one, one.ids if same else None) for one in several)
                found[at] += tuple(replace(one, ids=ids, log_probs=None) for one, ids in own)
        return found
