"""Two responses to a prompt as a question to a judge."""

from trueup.annotators.judge import Question
from trueup.annotators.quoting import visible
from trueup.annotators.templates.template import LABELS, Template
from trueup.annotators.transcript import answered, asked
from trueup.feedback.records import Content, Tools


def pose(
    template: Template,
    prompt: Content,
    first: Content,
    second: Content,
    *,
    instruction: str | None = None,
    tools: Tools = (),
) -> Question:
    """The question which of two responses is to be preferred, in this order.

    What others wrote stands between marks that it cannot hold, with nothing hidden in it; it is the same for the same
    texts, so that an answer can be kept.

    Raises:
        InputError: the template cannot show these responses.
    """
    texts = (asked(prompt, tools), answered(first), answered(second))
    return Question(template.render(*map(visible, texts), instruction=instruction), LABELS)
