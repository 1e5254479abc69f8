"""What makes an example useless, or at odds with itself, however well it is formed."""

from trueup.feedback.orders import agreed, distinct
from trueup.feedback.records import Comparison, Example, Response
from trueup.feedback.turns import says_nothing, switched_off


def unusable_because(example: Example) -> str | None:
    """Why nothing can be learned from an example, as a clause; None where something can."""
    if any(says_nothing(response.content) for response in example.responses):
        return "a response is empty"
    if example.prompt.content == ():
        return "no turn stands before the response"
    if any(switched_off(response.content) for response in example.responses):
        return "the response is switched off in the loss"
    return None


def contradicts_scores(example: Example) -> bool:
    """Whether a comparison prefers the response with the lower score or the lower label.

    Comparisons that contradict each other prefer nothing.
    """
    return any(against(one, example.responses) for one in agreed(distinct(example)))


def against(comparison: Comparison, responses: tuple[Response, ...]) -> bool:
    """Whether the response that was preferred has the lower score or the lower label, where both have one."""
    better, worse = responses[comparison.better], responses[comparison.worse]
    said = ((better.score, worse.score), (better.label, worse.label))
    return any(high is not None and low is not None and high < low for high, low in said)
