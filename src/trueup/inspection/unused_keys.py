"""What a key that no layout uses was probably meant to say, by its name alone."""

import re

from trueup.inspection import kinds
from trueup.inspection.kinds import Kind

REQUEST = {
    *(
        "system",
        "history",
        "context",
        "instruction",
        "question",
        "input",
        "prompt",
        "query",
        "passages",
        "documents",
    ),
    *("tools", "functions", "images", "image", "videos", "audios"),
}
"""Last words of keys that hold part of what was asked."""
JUDGEMENT = {
    *(
        "score",
        "scores",
        "reward",
        "rewards",
        "rating",
        "ratings",
        "rank",
        "ranking",
        "label",
        "labels",
        "grade",
    ),
    *(
        "preference",
        "vote",
        "votes",
        "upvotes",
        "downvotes",
        "margin",
        "probability",
        "confidence",
        "annotations",
    ),
}
"""Last words of keys that judge responses, and first words of those that end with a word of `SIDES`."""
SIDES = {"chosen", "rejected", "a", "b", "ratio"}


def kind_of_key(key: str) -> Kind:
    """The kind of problem that it is not to use a key.

    Example: `system_prompt` is part of a request, `score_chosen` and `chosenRating2` judge, `prompt_id` does neither.
    """
    words = re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", key).lower())
    last = words[-1] if words else ""
    if last in JUDGEMENT or (last in SIDES and words[0] in JUDGEMENT):
        return kinds.UNUSED_JUDGEMENT_KEY
    return kinds.UNUSED_REQUEST_KEY if last in REQUEST else kinds.UNUSED_KEY
