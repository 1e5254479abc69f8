"""Two responses to a prompt as a question to a judge."""

from trueup.annotators.judge import Question
from trueup.annotators.templates.template import LABELS, Template
from trueup.feedback.records import Content, Prompt


def pose(
    template: Template,
    prompt: Prompt,
    first: Content,
    second: Content,
    *,
    instruction: str | None = None,
) -> Question:
    """The question which of two responses is to be preferred, in this order.

    What others wrote stands between marks that it cannot hold, with nothing hidden in it; it is the same for the same
    texts, so that an answer can be kept.

    Raises:
        InputError: the template cannot show these responses.
    """
    return Question(template.render(prompt, first, second, instruction=instruction), LABELS)
