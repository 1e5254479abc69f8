"""A file of feedback judged again by any annotator, or with its chosen responses rewritten by a stronger model.
Demonstrations in place of chosen responses are as in the golden data of the ULMA paper: Cai et al., 2023,
https://arxiv.org/abs/2312.02554, have the chosen responses of pairs rewritten by a stronger model, to be imitated, and
keep the rejected ones as points with the label 0. The model is asked through an endpoint, within a budget, and no
demonstration is paid for twice."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from statistics import fmean
from typing import Any

from trueup.annotators.annotator import Unusable, summed
from trueup.annotators.asker import Answer, Asker, NoAnswer, Reply
from trueup.annotators.template import answered, load_template, transcript
from trueup.config.run_checks import check_annotator
from trueup.endpoints.client import Refused
from trueup.errors import InputError
from trueup.feedback import turns, views
from trueup.feedback.layouts.readers import ASSISTANT, HUMAN
from trueup.feedback.records import Content, Discarded, Example, Message, Response, content_key
from trueup.gathering import judging, shards
from trueup.gathering.resumable import Work, check_place, of_annotating, resumable
from trueup.settings import annotator_kinds, gathering_settings
from trueup.sources.by_name import examples_named
from trueup.words import counted, logger, shortened

Messages = list[dict[str, Any]]

CHUNK = 32
ANSWER = "answer"
"""Asks the conversation itself; `improve` and a user's template ask to improve the response that was chosen."""
VARIABLES = ("prompt", "chosen", "instruction", "boundary")
TURN = re.compile(r"(^|\n)\s*(Human|Assistant|User)\s*:|<\|[^|<>\n]{1,40}\|>")
"""What begins a further turn of a conversation, in HH's form or by a control token."""

CUT_OFF = "the demonstration was cut off at its longest length (rewrite_tokens)"
EMPTY = "the demonstration is empty"
TURNS = "the demonstration goes on with turns of a conversation"
REPEATS = "the demonstration repeats a rejected response"
WITH_TOOLS = "the prompt declares tools, which a demonstration in words does not call"


def annotate(settings: gathering_settings.AnnotateSettings) -> Path:
    """Write the examples as they are judged or rewritten now; what an earlier call did already is not done again.
    InputError: something that was given cannot be used, or nothing came of it. AnnotatorError: the annotator cannot be
    reached or afforded, or too many of its verdicts cannot be read. Stopped: the user asked to stop."""
    check_place(settings.output, overwrite=settings.overwrite)
    demonstrator = make_demonstrator(settings) if settings.rewrite else None  # nothing is sent yet
    load = None
    if not settings.rewrite:
        choice = check_annotator(settings.annotator, trust_remote_code=settings.trust_remote_code)
        settings = settings.model_copy(update={"annotator": choice})
        load = judging.annotator_loader(settings, choice)
    output = Path(settings.output)
    given = examples_named(settings.data, settings, skip_bad=settings.skip_bad).examples
    rows = shards.rows_of(settings.shard, len(given))
    with resumable(output, "trueup annotate", of_annotating(settings, given), rows.start) as work:
        own = given[rows.start : rows.stop]
        examples = rewrite(own, demonstrator, work) if demonstrator else own
        if load is not None:
            examples = judging.judge(own, load, work, output).kept
        number = shards.write(output, examples, work, settings.shard, rows, len(given))
        work.finish()
    logger.info(f"{counted(number, 'example')} written to {output}")
    return output


@dataclass(frozen=True, slots=True)
class ChosenAndRejected:
    example: Example
    chosen: Response  # the one that is replaced; of several that were never rejected the first
    rejected: tuple[Response, ...]  # those that were rejected and never chosen

    def rewritten(self, text: str, source: str) -> Example:
        """A demonstration for the chosen response, behind the same white space; rejected ones as points."""
        before = plain_text(self.chosen.content)
        lead = before[: len(before) - len(before.lstrip())]
        plain = isinstance(self.example.prompt.content, str)
        content: Content = f"{lead}{text.strip()}" if plain else (Message("assistant", text.strip()),)
        points = [replace(one, score=None, label=0.0, demonstration=False) for one in self.rejected]
        responses = (Response(content, demonstration=True, source=source), *points)
        return replace(self.example, responses=responses, comparisons=(), votes=())


def pair_of(example: Example) -> ChosenAndRejected | Discarded:
    """The two sides of an example, as training by pairs would see them."""
    if example.prompt.tools:
        return Discarded(WITH_TOOLS, example.origin)
    paired = views.pairs(example)
    if isinstance(paired, Discarded):
        return paired
    keys = [content_key(content) for content in paired.responses]
    better = {keys[one] for one, _, _ in paired.relation.pairs}
    worse = {keys[one] for _, one, _ in paired.relation.pairs}
    by_key = {content_key(one.content): one for one in reversed(example.responses)}
    chosen = [one for key, one in reversed(by_key.items()) if key in better - worse]
    rejected = tuple(one for key, one in reversed(by_key.items()) if key in worse - better)
    if not chosen or not rejected:
        return Discarded(views.CONTRADICTING, example.origin)
    return ChosenAndRejected(example, chosen[0], rejected)


def plain_text(response: Content) -> str:
    return response if isinstance(response, str) else "\n\n".join(one.content for one in response)


Ask = Callable[[ChosenAndRejected], Messages]
Rewritten = tuple[ChosenAndRejected, str]


def make_asking(template: str, instruction: str | None) -> Ask:
    """How a pair is put to the model: by the template `answer`, `improve` or a file's, and what it should be like."""
    if template == ANSWER:
        return lambda pair: request_messages(pair, instruction)
    texts = {"prompt": "p" * 99, "chosen": "c" * 999}
    known = ANSWER, annotator_kinds.IMPROVE
    loaded = load_template(template, setting="rewrite_template", known=known, variables=VARIABLES, texts=texts)
    if "prompt" not in loaded.used:
        why = "never shows {{ prompt }}, so that nothing can be written to it"
        raise InputError(f"{template}: the template {why}")
    loaded.check(instruction)

    def ask(pair: ChosenAndRejected) -> Messages:
        texts = {"prompt": transcript(pair.example.prompt), "chosen": answered(pair.chosen.content)}
        text, _ = loaded.render(texts, instruction=instruction)
        return [{"role": "user", "content": text}]

    return ask


def request_messages(pair: ChosenAndRejected, instruction: str | None) -> Messages:
    """The prompt as the messages of a conversation, with an instruction behind what its system prompt says."""
    prompt = pair.example.prompt.content
    messages = _turns(prompt) if isinstance(prompt, str) else [turns.message_json(one) for one in prompt]
    if instruction is None:
        return messages
    if messages and messages[0]["role"] == "system":
        said = f"{messages[0]['content']}\n\n{instruction}"
        return [{**messages[0], "content": said}, *messages[1:]]
    return [{"role": "system", "content": instruction}, *messages]


def _turns(text: str) -> Messages:
    parts = re.split(f"({re.escape(HUMAN)}|{re.escape(ASSISTANT)})", text)
    roles, said = {HUMAN: "user", ASSISTANT: "assistant"}, zip(parts[1::2], parts[2::2], strict=True)
    turns: Messages = [{"role": roles[mark], "content": one.strip()} for mark, one in said]
    if parts[0].strip():
        turns.insert(0, {"role": "system" if turns else "user", "content": parts[0].strip()})
    if not turns:
        return [{"role": "user", "content": text}]
    return turns[:-1] if turns[-1:] == [{"role": "assistant", "content": ""}] else turns


class Demonstrator:
    """Writes a demonstration for each pair; too large a share of unusable ones is an error."""

    def __init__(self, asker: Asker, ask: Ask, drawing: Mapping[str, Any], *, max_unusable: float) -> None:
        self.asker, self.ask, self.drawing = asker, ask, drawing
        self.unusable = Unusable(max_unusable, "demonstrations", "used", "another model")

    def write(self, pairs: Sequence[ChosenAndRejected]) -> tuple[list[str | Discarded], dict[str, float]]:
        """A demonstration for each pair, or why there is none; and what it took, as sums."""
        requests = [{"model": self.asker.name, "messages": self.ask(pair), **self.drawing} for pair in pairs]
        once = [request for place, request in enumerate(requests) if request not in requests[:place]]
        recalled = [self.asker.recall(request) for request in once]
        missing = [request for request, kept in zip(once, recalled, strict=True) if kept is None]

        def read(number: int, reply: Reply) -> str | Discarded:
            found = read_demonstration(reply)
            if isinstance(found, str):
                self.asker.keep(missing[number], {"text": found})
            return found

        written, took = self.asker.ask(missing, read)
        new = iter(written)
        found = [next(new) if kept is None else str(kept["text"]) for kept in recalled]
        both = zip(requests, pairs, strict=True)
        made = [usable(found[once.index(request)], pair) for request, pair in both]
        reasons = [one.reason if isinstance(one, Discarded) else None for one in made]
        self.unusable.add(self.asker.name, reasons)
        return made, self.asker.totals(took, {"cached": len(once) - len(missing)})


def make_demonstrator(settings: gathering_settings.AnnotateSettings) -> Demonstrator:
    """Who writes demonstrations; nothing is sent yet."""
    choice: Any = settings.annotator
    temperature = settings.rewrite_temperature
    ask = make_asking(settings.rewrite_template, choice.instruction)
    drawing = {"temperature": temperature, "max_tokens": settings.rewrite_tokens}
    drawing |= {"seed": settings.seed} if temperature else {}
    asker: Asker = resolve_name(f"trueup.{choice.about.asker}")(choice, cached="demonstrations")
    return Demonstrator(asker, ask, drawing, max_unusable=choice.max_unreadable)


def read_demonstration(reply: Reply) -> str | Discarded:
    """What a reply says, or why that is nothing to imitate."""
    if isinstance(reply, Refused):
        return Discarded(f"the endpoint refused the request: {shortened(reply.reason)}")
    if reply is NoAnswer.CUT_OFF or (isinstance(reply, Answer) and reply.cut_off):
        return Discarded(CUT_OFF)
    return Discarded(reply.value) if isinstance(reply, NoAnswer) else reply.text.strip() or Discarded(EMPTY)


def usable(found: str | Discarded, pair: ChosenAndRejected) -> str | Discarded:
    """A demonstration that can take the place of a pair's chosen response, or why there is none."""
    if isinstance(found, str) and TURN.search(found):
        return Discarded(TURNS)
    repeats = any(found == plain_text(one.content).strip() for one in pair.rejected)
    return Discarded(REPEATS) if repeats else found


def rewrite(examples: Sequence[Example], demonstrator: Demonstrator, work: Work) -> tuple[Example, ...]:
    """Put a demonstration in place of the chosen response of every pair, and say so."""
    model = demonstrator.asker.name
    found = [pair_of(example) for example in examples]
    pairs = [one for one in found if isinstance(one, ChosenAndRejected)]
    dropped = [one for one in found if isinstance(one, Discarded)]
    label = f"rewriting by {model}"
    parts = work.in_parts("rewrite", label, pairs, CHUNK, lambda: nullcontext(demonstrator), _written)
    done: list[Rewritten] = []
    for pair, row in zip(pairs, (row for part in parts for row in part["rows"]), strict=True):
        if "text" in row:
            done.append((pair, row["text"]))
        else:
            dropped.append(Discarded(row["dropped"], pair.example.origin))
    for line in (*_lines(done, dropped, model), *judging.usage_lines(summed(part["facts"] for part in parts))):
        logger.info(line)
    if not done and work.alone:
        raise InputError(
            f"none of {counted(len(examples), 'example')} was rewritten, for the reasons above; nothing was written. "
            "Give pairs: examples in which one response is preferred to another"
        )
    return tuple(pair.rewritten(text, model) for pair, text in done)


def _written(demonstrator: Demonstrator, _: str, chunk: Sequence[ChosenAndRejected]) -> dict[str, Any]:
    made, totals = demonstrator.write(chunk)
    rows = [{"dropped": one.reason} if isinstance(one, Discarded) else {"text": one} for one in made]
    return {"rows": rows, "facts": totals}


def _lines(done: Sequence[Rewritten], dropped: Sequence[Discarded], model: str) -> Iterator[str]:
    if done:
        words = fmean(len(text.split()) for _, text in done)
        before = fmean(len(plain_text(pair.chosen.content).split()) for pair, _ in done)
        yield (
            f"{counted(len(done), 'chosen response')} rewritten by {model}: {words:.1f} words on average, where they "
            f"had {before:.1f}"
        )
        same = sum(text.strip() == plain_text(pair.chosen.content).strip() for pair, text in done)
        if same:
            yield f"{same} of them say what the chosen response said"
        points = sum(len(pair.rejected) for pair, _ in done)
        yield f"{counted(points, 'rejected response')} kept as points with the label 0"
        others = sum(len(pair.example.responses) - 1 - len(pair.rejected) for pair, _ in done)
        if others:
            yield f"{counted(others, 'response')} left out, neither replaced nor always rejected"
    if line := judging.left_out(dropped):
        yield line
