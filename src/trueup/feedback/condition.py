"""A reward written into a prompt, in training and whenever the model is asked; kept with the model.

Conditional alignment: Hu et al., 2023, https://arxiv.org/abs/2308.12050.
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from trueup import errors, files
from trueup.feedback.records import Message, Prompt

FILE = "condition.json"
PLACEHOLDER = "{reward}"
POSITIONS = ("start", "end")
DECIMALS = 15


@dataclass(frozen=True, slots=True)
class Condition:
    """How a reward is written into a prompt, and which one to ask for.
    `Condition(" <rm_score>: {reward} ", 1, "end", reward=2.3)` makes "2 + 2 =" into "2 + 2 = <rm_score>: 2.3 "."""

    text: str
    decimals: int
    position: str
    """`end`: after the prompt; in a conversation, after the last message. `start`: before the prompt; in a
    conversation, before the first message that is not the system's."""
    reward: float
    mean: float = 0.0
    std: float = 1.0
    highest: float = 0.0
    lowest: float = 0.0

    def __post_init__(self) -> None:
        if self.text.count(PLACEHOLDER) != 1:
            raise ValueError(f"the text of a condition holds {PLACEHOLDER} once; got {self.text!r}")
        if self.position not in POSITIONS:
            raise ValueError(f"a condition stands at the {' or '.join(POSITIONS)}; got {self.position!r}")
        if not 0 <= self.decimals <= DECIMALS:
            raise ValueError(f"a number cannot have {self.decimals} decimals")
        if not all(map(math.isfinite, (self.reward, self.mean, self.std, self.highest, self.lowest))):
            raise ValueError("the numbers of a condition must be finite")

    def words(self, reward: float | None = None) -> str:
        """The text with a standardised reward in it; left out, with the one to ask for."""
        value = round(self.reward if reward is None else reward, self.decimals)
        return self.text.replace(PLACEHOLDER, f"{value + 0.0:.{self.decimals}f}")  # + 0.0: never "-0.0"

    def applied(self, prompt: Prompt, reward: float | None = None) -> Prompt:
        words, given = self.words(reward), prompt.content
        if isinstance(given, str):
            return replace(prompt, content=given + words if self.position == "end" else words + given)
        places = [at for at, message in enumerate(given) if message.role != "system"]
        if not places:
            raise errors.InputError("a condition cannot be written into a system message alone; give one of the user")
        at = places[-1] if self.position == "end" else places[0]
        said = given[at]
        content = said.content + words.rstrip() if self.position == "end" else words.lstrip() + said.content
        turns = (*given[:at], Message(said.role, content, said.extra), *given[at + 1 :])
        return replace(prompt, content=turns)

    def asking_for(self, reward: float) -> "Condition":
        return replace(self, reward=reward)

    def save(self, folder: Path) -> None:
        with files.replaced_file(folder / FILE) as file:
            file.write((json.dumps(asdict(self), indent=1) + "\n").encode())


def read_condition(folder: Path) -> Condition | None:
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
        if unknown := sorted(set(found) - {field.name for field in fields(Condition)}):
            raise ValueError(f"unknown key {unknown[0]!r}")
        for name, value in found.items():
            kind = str if name in ("text", "position") else int if name == "decimals" else (int, float)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{name} is {value!r:.80}")
        return Condition(**found)
    except (OSError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        what = f"the condition this model was trained with cannot be read: {error}"
        raise errors.InputError(f"{path}: {what}. Restore the file; without it the model is asked otherwise") from error
