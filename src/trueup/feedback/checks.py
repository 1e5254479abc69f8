"""What makes an example useless however well it is formed."""

from trueup.feedback.records import Example
from trueup.feedback.turns import says_nothing


def unusable_because(example: Example) -> str | None:
    """Why nothing can be learned from an example, as a clause; None where something can."""
    if any(says_nothing(response.content) for response in example.responses):
        return "a response is empty"
    if not isinstance(example.prompt, str) and not example.prompt:
        return "no turn stands before the response"
    return None
