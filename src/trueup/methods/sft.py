from trueup.methods import kinds


@kinds.method(
    name="sft",
    title="Supervised fine-tuning",
    formula="-log p(response | prompt)",
    feedback="demonstrations; of pairs and rankings, the best response",
    defaults={"learning_rate": 1e-5},
    trl_loss="nll",
    figures=kinds.IMITATION_FIGURES,
)
def sft(*, per_token: kinds.PerToken = True) -> kinds.Method:
    """Raise the likelihood of demonstrations."""
    return kinds.imitation(per_token=per_token)
