"""How many conversations does every chat template that TRL ships allow to be learned exactly?

Each template with each kind of conversation, for its own models' tokenizer and for a base model's, is compared with
what the library renders and with expressions written by hand (`tests/support/chat_oracle.py`):

    exact     ids and mask are what they should be
    refused   with a reason that is true
    wrong     anything else

    python benchmarks/chat_templates/run.py            prints the table
    python benchmarks/chat_templates/run.py --write    puts it into docs/feedback.md
"""

import logging
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "feedback.md"
TABLE = re.compile(r"(?<=<!-- counts -->\n).*?(?=<!-- end of counts -->)", re.DOTALL)


def table() -> str:
    """A row for each kind of conversation."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.chat_oracle import outcome, templates, variants
    from support.conversations import conversations

    kinds = list(conversations("", ""))
    found = {kind: Counter[str]() for kind in kinds}
    for name in templates():
        for tokenizer, ends in variants(name):
            for kind in kinds:
                found[kind][outcome(tokenizer, name, kind, ends)[0]] += 1
    rows = [*found.items(), ("all", sum(found.values(), Counter[str]()))]
    lines = [f"| {kind} | {count['exact']} | {count['refused']} | {count['wrong']} |" for kind, count in rows]
    return "\n".join(["| conversation | exact | refused | wrong |", "|---|---|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    made = table()
    print(made, end="")
    if "--write" in sys.argv[1:]:
        PAGE.write_text(TABLE.sub(lambda _: made, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
