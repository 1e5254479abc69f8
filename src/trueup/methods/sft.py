"""Supervised fine-tuning: imitate demonstrations."""

from trueup.methods.kinds import Method, PerToken, imitation, method


@method(
    name="sft",
    title="Supervised fine-tuning",
    formula="-log p(response | prompt)",
    feedback="demonstrations; of pairs and rankings, the best response",
    defaults={"learning_rate": 1e-5},
    trl_loss="nll",
)
def sft(*, per_token: PerToken = True) -> Method:
    """Raise the likelihood of demonstrations."""
    return imitation(per_token=per_token)
