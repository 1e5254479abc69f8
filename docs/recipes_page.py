"""Write docs/recipes.md from examples/papers: `python docs/recipes_page.py > docs/recipes.md`."""

import re
from pathlib import Path

PAPERS = Path(__file__).parents[1] / "examples" / "papers"
HEAD = """# Recipes

The settings of the papers, as files that run as they are, with your model and data in the places of capitals.
Each number in them has its source beside it; what could not be read in a paper or its authors' code is left to the
method's defaults. Made by `python docs/recipes_page.py > docs/recipes.md`; a test checks that it is current, and that
each file loads.

| recipe | method | what it is | how it is run |
|---|---|---|---|
"""


def row(path: Path) -> str:
    """What the comment at the head of a recipe says, and the command in it."""
    text = path.read_text()
    about, command = re.split(r"^#     (?=trueup)", text.partition("\nmethod:")[0], maxsplit=1, flags=re.MULTILINE)
    said = re.sub(r"\n?# ?", " ", about).strip()
    (typed,) = re.findall(r"\A.*$", re.sub(r" *\\\n# +", " ", command), re.MULTILINE)
    (method,) = re.findall(r"^method: ([\w-]+)", text, re.MULTILINE)
    name = f"[{path.stem}](../examples/papers/{path.name})"
    return f"| {name} | [{method}](methods/{method}.md) | {said} | `{typed}` |\n"


if __name__ == "__main__":
    print(HEAD + "".join(map(row, sorted(PAPERS.glob("*.yaml")))), end="")
