"""Transcripts as in Anthropic's HH. Bai et al., 2022, https://arxiv.org/abs/2204.05862.

    {"chosen": "\\n\\nHuman: Hello\\n\\nAssistant: Hi", "rejected": ...}

The prompt is the raw text up to and including the last mark of the assistant, the response is what follows,
with its leading space.
"""

from trueup.feedback.fields import Place, text
from trueup.feedback.layouts.layout import REQUEST, Layout, RowValue, Unusable
from trueup.feedback.layouts.sides import DIFFERENT_PROMPTS, OPTIONAL, pair
from trueup.feedback.records import Example, Origin

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"


def convert(row: RowValue, origin: Origin) -> Example | Unusable:
    """Both sides, split after the last mark of the assistant."""
    place = Place(origin)
    splits = []
    for key in LAYOUT.keys:
        transcript = text(row[key], place.key(key))
        before, mark, response = transcript.rpartition(ASSISTANT)
        if not mark and HUMAN not in transcript:
            expected = f"a transcript with {HUMAN!r} and {ASSISTANT!r}, as in the first row"
            raise place.key(key).unexpected(transcript, expected)
        if not mark:
            return Unusable("the transcript has no turn of the assistant")
        if HUMAN in response:
            return Unusable("the transcript does not end with a turn of the assistant")
        splits.append((before + mark, response))
    (prompt, chosen), (other, rejected) = splits
    if prompt != other:
        return Unusable(DIFFERENT_PROMPTS)
    return pair(prompt, chosen, rejected, row, origin)


def is_transcript(row: RowValue) -> bool:
    """Whether one of the sides is text with a mark of the human or the assistant."""
    sides = (row["chosen"], row["rejected"])
    return any(isinstance(side, str) and (HUMAN in side or ASSISTANT in side) for side in sides)


LAYOUT = Layout(
    name="HH transcripts",
    keys=("chosen", "rejected"),
    optional=OPTIONAL,
    foreign=("prompt",),
    request=REQUEST,
    meaning="A pair of transcripts: the prompt ends with the last '\\n\\nAssistant:', the response follows.",
    convert=convert,
    fits=is_transcript,
)
