"""Stack Exchange pairs, as torchtune reads them: https://huggingface.co/datasets/lvwerra/stack-exchange-paired.

    {"question": "2 + 2 =", "response_j": "4", "response_k": "5"}

The question is a turn of the user, the responses are turns of the assistant.
"""

from trueup.feedback.fields import Place, text
from trueup.feedback.layouts.data_sets.exchange import answer, request
from trueup.feedback.layouts.frameworks.dialogues import COMMON, compared
from trueup.feedback.layouts.layout import Layout, RowValue
from trueup.feedback.records import Example, Origin


def convert(row: RowValue, origin: Origin) -> Example:
    """`response_j` is the better one."""
    question, better, worse = (text(row[key], Place(origin).key(key)) for key in LAYOUT.keys)
    return compared(request(question), answer(better), answer(worse), row, origin)


LAYOUT = Layout(
    name="Stack Exchange pairs",
    keys=("question", "response_j", "response_k"),
    optional=COMMON,
    meaning="A pair: `response_j` was preferred to `response_k` as an answer to `question`.",
    convert=convert,
)
