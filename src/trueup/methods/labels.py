"""Settings shared by the methods that train on labels."""

from typing import Annotated, Any

from pydantic import Field

from trueup.feedback.transforms.graded_labels import Scale

LabelScale = Annotated[
    Scale,
    Field(
        description="How scores become labels: none leaves them alone; min-max over the training data; range from "
        "score_low to score_high; sigmoid of the standardised score."
    ),
]
ScoreLow = Annotated[float | None, Field(description="Score that is the label 0, for scale range.")]
ScoreHigh = Annotated[float | None, Field(description="Score that is the label 1, for scale range.")]
DemonstrationFrom = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    Field(
        description="Responses labelled this or more count as demonstrations. Left out: only those marked as such."
    ),
]
Continuous = Annotated[
    bool,
    Field(description="Labels are grades to fit by least squares; false takes them as probabilities."),
]
PerTokenRatio = Annotated[
    bool,
    Field(description="Log-probabilities per token, as in the authors' code; false sums over the tokens."),
]
LogZ = Annotated[float, Field(description="beta log Z(x), taken as a constant; added to every reward.")]


def measured(settings: Any) -> str:
    """What is measured over all of the training data (`MethodInfo.measures`)."""
    what = {
        "min-max": "the lowest and the highest score",
        "sigmoid": "the mean and standard deviation of all scores",
    }
    found = what.get(settings.scale, "")
    return (
        f"{found} (scale {settings.scale}); give scale range with score_low and score_high" if found else ""
    )
