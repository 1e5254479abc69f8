"""What is asked for next is a change of few files: made in a copy of the package, and seen to reach its end."""

import json
import re
from pathlib import Path

import pytest
from support.package_copies import SOURCE, copied, run_commands, run_python
from support.small_runs import options, write_feedback

Changes = dict[str, list[tuple[str, str]]]
"""File of the package -> what stands there, and what is to stand there."""

IDEAL: Changes = {
    "feedback/records.py": [
        (
            "    rubric: tuple[tuple[str, float], ...] = field(default=(), repr=False)\n",
            "    rubric: tuple[tuple[str, float], ...] = field(default=(), repr=False)\n    ideal: str | None = None\n",
        )
    ],
    "feedback/canonical.py": [
        (
            'PROMPT_KEYS = ("prompt", "tools", "rubric")',
            'PROMPT_KEYS = ("prompt", "tools", "rubric", "ideal")',
        ),
        (
            "    return Prompt(prompt, tools, row.origin, tuple(map(_criterion, listed)))",
            '    ideal = row.optional("ideal", Field.text) if "ideal" in keys else None\n'
            "    return Prompt(prompt, tools, row.origin, tuple(map(_criterion, listed)), ideal)",
        ),
        (
            '        row["tools"] = [dict(one) for one in prompt.tools]\n',
            '        row["tools"] = [dict(one) for one in prompt.tools]\n'
            '    if prompt.ideal is not None:\n        row["ideal"] = prompt.ideal\n',
        ),
    ],
    "annotators/templates/helpfulness.jinja": [
        (
            "Conversation:\n{{ prompt }}",
            "{% if ideal %}\nWhat counts here:\n{{ ideal }}\n\n{% endif %}\nConversation:\n{{ prompt }}",
        )
    ],
}
CLIPPED: Changes = {
    "methods/dpo.py": [("    **kinds.OF_PAIRS,", '    **kinds.OF_PAIRS,\n    figures=("loss", "clipped"),')],
    "training/step.py": [
        (
            '    return {**means, "grad_norm": grad_norm}',
            "    limit = optimizer.max_grad_norm\n"
            '    return {**means, "grad_norm": grad_norm, "clipped": float(bool(limit) and grad_norm > limit)}',
        )
    ],
}  # fmt: skip
ASK = """
import sys
from trueup.annotators.template import load_question, pose
from trueup.feedback.canonical import write_examples
from trueup.feedback.read import read_feedback
from trueup.feedback.transforms import merged
feedback = read_feedback([sys.argv[1]])
write_examples(sys.argv[2], feedback.examples)
template = load_question("helpfulness")
print(len(merged(feedback.examples)), feedback.files[0].unused_keys)
for example in feedback.examples:
    print(pose(template, example.prompt, "4", "5").text)
for path in sys.argv[3:]:
    (example,) = read_feedback([path]).examples
    print(example.prompt.ideal)
"""


def test_the_places_that_the_design_names_are_there() -> None:
    text = (SOURCE.parent / "docs" / "design.md").read_text()
    table = text.partition("## To change this")[2].partition("\n## ")[0]
    named = [path for path in re.findall(r"`([a-z_/]+(?:\.py|/))`", table.replace("NAME.py", ""))]
    folders = dict.fromkeys(named)
    assert len(folders) > 20
    layouts = SOURCE / "trueup" / "feedback" / "layouts"
    assert [path for path in folders if not ((SOURCE / "trueup" / path).exists() or (layouts / path).exists())] == [
        "src/trueup/"
    ]


def changed(folder: Path, changes: Changes) -> Path:
    """A copy of the package with these changes, in no more than three files."""
    assert len(changes) <= 3
    copy = copied(folder)
    for name, pairs in changes.items():
        file = copy / "trueup" / name
        text = file.read_text()
        for old, new in pairs:
            assert text.count(old) == 1, f"{name} is not as this test has it: {old}"
            text = text.replace(old, new)
        file.write_text(text)
    return copy


@pytest.mark.slow
def test_what_belongs_to_a_prompt_reaches_the_judge(tmp_path: Path) -> None:
    """It is read, kept, told apart and written again, and stands between marks in the question."""
    row = {"prompt": "2 + 2 =", "responses": [{"content": "4"}, {"content": "5"}]}
    given, written = tmp_path / "given.jsonl", tmp_path / "written.jsonl"
    given.write_text("".join(json.dumps(one) + "\n" for one in (row, {**row, "ideal": "the right sum"}, row)))
    others = {
        "pair.jsonl": {"prompt": "2 + 2 =", "chosen": "4", "rejected": "5", "ideal": "of pairs"},
        "scored.jsonl": {"prompt": "2 + 2 =", "responses": ["4", "5"], "scores": [1, 0], "ideal": "of scores"},
    }  # fmt: skip
    for name, other in others.items():
        (tmp_path / name).write_text(json.dumps(other) + "\n")
    done = run_python(changed(tmp_path, IDEAL), ASK, given, written, *(tmp_path / name for name in others))
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert said.startswith("2 {}\n")  # the same words with another ideal answer are another prompt
    assert written.read_text() == given.read_text()
    assert said.endswith("of pairs\nof scores\n")
    assert said.count("What counts here:\n<") == said.count(">\nthe right sum\n</") == 1


@pytest.mark.slow
def test_a_new_metric_is_written_and_shown(tiny_model: Path, tmp_path: Path) -> None:
    """Whether a step's gradient was clipped: in metrics.jsonl, beside the bar and on the model card."""
    data = write_feedback(tmp_path)["pairs"]
    copy = changed(tmp_path, CLIPPED)
    limits = {1e-6: 1.0, 1e6: 0.0}
    settings = {"model": tiny_model, "data": data, "steps": 2}
    commands = [
        ["train", "dpo", *options({**settings, "output": tmp_path / str(limit), "max_grad_norm": limit})]
        for limit in limits
    ]
    done = run_commands(copy, *commands)
    assert done.returncode == 0, done.stderr
    for (limit, expected), shown in zip(limits.items(), done.stderr.split("=====")[:2], strict=True):
        lines = [json.loads(line) for line in (tmp_path / str(limit) / "metrics.jsonl").read_text().splitlines()]
        assert [line["clipped"] for line in lines] == [expected, expected]
        assert f"clipped {expected:g}" in shown and "grad_norm" not in shown
        assert f"- clipped: {expected:g}" in (tmp_path / str(limit) / "model" / "README.md").read_text()
