"""`trueup chat`: a conversation in the terminal with one model, or with two whose answers are compared blind."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from trueup import errors, files, words
from trueup.batch.chat_template import today
from trueup.evaluate import entrants
from trueup.feedback import canonical, read, records, turns
from trueup.gathering import candidates
from trueup.sampling import sampler
from trueup.sampling.engines.in_process import InProcessSampler
from trueup.settings.gathering_settings import ChatSettings, EvaluateSettings

HELP = "/new begins another conversation, /undo takes back the last turn, /quit ends; // begins a line with a slash"
CHOICES = {"1": "first", "2": "second", **dict.fromkeys(("t", "tie", "0"), "tie")}
CHOICES |= dict.fromkeys(("n", "neither"), "neither")


def chat(settings: ChatSettings) -> None:
    """Talk until the user ends it. Raises InputError: a model cannot be loaded, or the file to keep be added to."""
    names = [settings.model, *([] if settings.against is None else [settings.against])]
    kept = None if settings.keep is None else _kept(Path(settings.keep))
    shared = settings.model_dump(include=set(EvaluateSettings.model_fields) - {"against"})
    asking = EvaluateSettings(models=tuple(dict.fromkeys(names)), **shared)
    sampling = entrants.sampling_of(asking)
    models = []
    for model in [entrants.model_of(name, asking) for name in names]:
        assert model.read is not None
        loaded, encoder = candidates.running(sampling, today, 1, model.read)
        models.append(InProcessSampler(settings.sampler, loaded, encoder, name=model.name))
    talk = Conversation(settings, models, kept)
    words.logger.info(HELP)
    try:
        while talk.line(_typed("> ")):
            pass
    except (EOFError, KeyboardInterrupt):
        print()
    talk.tell()


def _typed(prompt: str) -> str:
    line = input(prompt if sys.stdin.isatty() else "")
    return line.encode("utf-8", "replace").decode("utf-8")


def _kept(path: Path) -> files.Journal:
    """The file, of which a torn last line is cut off, if all that it holds is in canonical form."""
    journal = files.Journal(path)
    try:
        lines, torn = journal.read()
        if torn:
            try:
                json.loads(torn)
                journal.append(b"")  # an end of the line is all that is missing
            except ValueError:
                journal.keep(lines)
        if journal.size and any(one.layout != "canonical" for one in read.read_feedback([path]).files):
            raise errors.InputError(f"{path}: holds feedback of another layout; convert it, or give another --keep")
        journal.append()
    except OSError as error:
        raise errors.InputError(f"{path}: preferences cannot be kept there: {words.reason(error)}") from error
    return journal


class Conversation:
    """What was said so far, and who says what comes next: one model, or two in random order."""

    def __init__(self, settings: ChatSettings, models: Sequence[InProcessSampler], kept: files.Journal | None) -> None:
        self.settings, self.models, self.kept = settings, models, kept
        self.console = Console(highlight=False, markup=False, emoji=False)
        templates = [one.encoder.tokenizer.chat_template is not None for one in models]
        messages, system = all(templates) if settings.chat is None else settings.chat, settings.system
        if messages and not all(templates):
            why = "a model has no chat template for messages; give --chat-template or --chat false"
            raise errors.InputError(why)
        vocabularies = [one.encoder.tokenizer.get_vocab() for one in models]
        self.with_tokens = all(one == vocabularies[0] for one in vocabularies)
        in_messages = (records.Message("system", system),) if system else ()
        self.history: list[records.Content] = [in_messages if messages else system or ""]
        self.count, self.shown, self.tally = 0, 0, Counter[str]()

    def line(self, said: str) -> bool:
        command = said.strip()
        if command == "/quit":
            return False
        if command == "/new":
            self.history = self.history[:1]
        elif command == "/undo":
            self.history = self.history[:-1] or self.history
        elif command.startswith("/") and not command.startswith("//"):
            self.console.print(HELP, soft_wrap=True)
        elif command:
            try:
                self._answer(said.removeprefix("/") if command.startswith("//") else said)
            except errors.InputError as error:
                self.console.print(Text(words.spelled(str(error)), style="red"))
        return True

    def _answer(self, said: str) -> None:
        before = self.history[-1]
        if isinstance(before, str):
            prompt = records.Prompt(before + self.settings.turn.replace("{text}", said))
        else:
            prompt = records.Prompt((*before, records.Message("user", said)))
        digit = hashlib.sha256(f"{self.settings.seed} {self.count} {prompt.key}".encode()).digest()[0]
        order = list(range(len(self.models)))[:: -1 if digit % 2 else 1]
        answers = self._sampled(prompt, order)
        if not all(answers):
            raise errors.InputError("the conversation leaves no room for an answer; /new begins another one")
        contents: list[records.Content] = [one[0].text for one in answers]
        if not isinstance(before, str):
            contents = [turns.as_messages(one[0].text) for one in answers]
        verdict = "first" if len(order) == 1 else self._verdict(contents)
        if len(order) == 2:
            better = self.models[order[verdict == "second"]].name
            self.tally[verdict if verdict in ("tie", "neither") else better] += 1
            self._keep(prompt, [one[0] for one in answers], contents, verdict)
        if verdict == "neither":
            return
        chosen, content = contents[verdict == "second"], prompt.content
        if isinstance(content, str) or isinstance(chosen, str):
            self.history.append(f"{content}{chosen}")
        else:
            self.history.append((*content, *chosen))

    def _sampled(self, prompt: records.Prompt, order: Sequence[int]) -> list[tuple[sampler.Sampled, ...]]:
        answers = []
        for place, at in enumerate(order, start=1):
            if len(order) == 2:
                self.console.print(f"[{place}]")
            self.shown, self.models[at].watch = 0, self._watch(self.models[at])
            seed = sampler.another_seed(self.settings.seed, len(self.models) * self.count + at)
            (found,) = self.models[at].sample([prompt], 1, seed=seed)
            answers.append(found)
            self._show(words.spelled(found[0].text) if found else "")
            self.console.print()
        self.count += 1
        return answers

    def _show(self, text: str) -> None:
        self.console.print(Text(text[self.shown :]), end="", soft_wrap=True)
        self.shown = max(self.shown, len(text))

    def _watch(self, model: InProcessSampler) -> Callable[[Sequence[int]], None]:
        """Shows what a model has written so far, but for half a character and what may begin a stop text."""
        longest = max(map(len, self.settings.sampler.stop), default=1) - 1

        def watch(ids: Sequence[int]) -> None:
            text = model.encoder.text(ids)
            if not text.endswith("\ufffd"):
                self._show(words.spelled(text[: len(text) - longest]))

        return watch

    def _verdict(self, contents: Sequence[records.Content]) -> str:
        if contents[0] == contents[1]:
            self.console.print("(both say the same)")
            return "tie"
        while (said := _typed("which is better: 1, 2, t(ie) or n(either)? ").strip().lower()) not in CHOICES:
            self.console.print("1, 2, t for a tie, or n for neither, which takes your line back")
        return CHOICES[said]

    def _keep(
        self, prompt: records.Prompt, answers: Sequence[sampler.Sampled], contents: Sequence[records.Content],
        verdict: str,
    ) -> None:  # fmt: skip
        """Add a preference to the file; answers that are equal or empty say nothing."""
        if self.kept is None or contents[0] == contents[1] or any(map(turns.says_nothing, contents)):
            return
        told = zip(contents, [(one.source, one.ids if self.with_tokens else None) for one in answers], strict=True)
        responses = tuple(records.Response(said, source=who, tokens=ids) for said, (who, ids) in told)
        better = {"first": 0, "second": 1}.get(verdict)
        comparisons = () if better is None else (records.Comparison(better, 1 - better),)
        vote = records.Vote(0, 1, verdict, self.settings.person)
        row = canonical.example_to_row(records.Example(prompt, responses, comparisons, (vote,)))
        try:
            self.kept.append(canonical.json_line(row).rstrip(b"\n"))
        except OSError as error:
            why = words.reason(error)
            raise errors.InputError(f"{self.kept.path}: the preference cannot be kept: {why}") from error

    def tell(self) -> None:
        if self.tally:
            words.logger.info("; ".join(f"{name}: {number}" for name, number in self.tally.most_common()))
        if self.kept is not None and self.kept.size:
            words.logger.info(f"preferences are in {self.kept.path}")
