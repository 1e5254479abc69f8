"""What is read of a model's folder before its weights: the tokenizer, and what ends a response.

What comes with a model and may never end is tried once in a process of its own, before a model is loaded: a chat
template is a program of the model's author and may loop; a regular expression may take for ever on a name. Imports
nothing that takes long, for that process.
"""

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trueup import files, model_folder, trial
from trueup.errors import InputError
from trueup.feedback.condition import Condition, read_condition
from trueup.words import one_line, shortened


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """What encodes feedback for a model."""

    tokenizer: Any
    end_ids: tuple[int, ...]
    """Tokens that end a response; the first is the tokenizer's end of sequence."""
    positions: int | None
    """Tokens of one sequence that the model was made for; None where its configuration does not say."""
    vocabulary: int | None
    condition: Condition | None = None
    """What the model was trained to be asked with, by conditional alignment."""


def load_tokenizer(
    path: str,
    *,
    trust_remote_code: bool = False,
    eos_token: str | None = None,
    chat_template: str | None = None,
) -> LoadedTokenizer:
    """Read the tokenizer of a model or an adapter, and what stands beside it; weights need not be there.
    `eos_token` and `chat_template`, a file, are for a tokenizer that has none."""
    from transformers import AutoConfig

    base = model_folder.base_folder(path, weights=False)
    with reading(base, "no model's configuration that can be loaded"):
        config: Any = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=trust_remote_code)
    tokenizer = _tokenizer(path, base, trust_remote_code=trust_remote_code, chat_template=chat_template)
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    ends = _end_ids(_generation(base, config), tokenizer, eos_token, path, vocabulary)
    positions, condition = model_folder.context_length(config), read_condition(Path(path))
    return LoadedTokenizer(tokenizer, ends, positions, vocabulary, condition)


def tokenizer_folder(path: str, base: str) -> str:
    """Which of the folders of a model or an adapter and of its base model the tokenizer is read from."""
    own = any((Path(path) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    return path if own else base


def _tokenizer(path: str, base: str, *, trust_remote_code: bool, chat_template: str | None) -> Any:
    """The tokenizer in the folder given, or else in that of the base model, with another template where asked."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    with reading(path, "no tokenizer that can be loaded"):
        tokenizer: Any = AutoTokenizer.from_pretrained(
            tokenizer_folder(path, base), local_files_only=True, trust_remote_code=trust_remote_code
        )
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise TypeError(f"a {type(tokenizer).__name__} holds others, and is no tokenizer of one text")
        if not isinstance(tokenizer.model_max_length, int | float):
            raise TypeError(f"model_max_length {shortened(str(tokenizer.model_max_length))} is no number")
    # trueup cuts to the model's length itself, and counts what it cuts; the library would warn of each long text.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    if chat_template is not None:
        try:
            tokenizer.chat_template = files.no_device(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise InputError(f"--chat-template {chat_template}: not a text file in UTF-8: {error}") from error
    templates = tokenizer.chat_template
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        if isinstance(template, str):
            check_chat_template(template)
    return tokenizer


def _end_ids(
    generation: Any, tokenizer: Any, eos_token: str | None, path: str, vocabulary: int | None
) -> tuple[int, ...]:
    """The tokens that end a response: the tokenizer's end of sequence, and those the model stops at."""
    if eos_token is not None:
        number = tokenizer.convert_tokens_to_ids(eos_token)
        if number is None or number == tokenizer.unk_token_id:
            raise InputError(f"{path}: --eos-token {eos_token!r} is not one token of the model's vocabulary")
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{path}: the tokenizer has no end-of-sequence token, so a response could not be ended. Name one of its "
            "tokens with --eos-token"
        )
    named = getattr(generation, "eos_token_id", None)
    named = [] if named is None else named if isinstance(named, list | tuple) else [named]
    most = max(len(tokenizer), vocabulary or 0)
    for one in named:
        if not isinstance(one, int) or not 0 <= one < most:
            raise InputError(
                f"{path}: eos_token_id {shortened(str(one))} of its generation_config.json or config.json is not the "
                f"number of a token, from 0 to {most - 1}. Mend the file"
            )
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *named]))


def _generation(base: str, config: Any) -> Any:
    """The generation configuration that a model loaded from this folder would have."""
    from transformers import GenerationConfig

    with reading(base, "no generation_config.json that can be loaded"):
        try:
            return GenerationConfig.from_pretrained(base, local_files_only=True)
        except OSError:  # no such file, or a torn one: the library then takes the model's own
            return GenerationConfig.from_model_config(config)


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep the model library's notices and progress bars off the user's screen while it loads, and what its Rust prints
    of a file as it stands there: control characters too."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    output = None
    with suppress(OSError):  # closed, as by `>&-`
        output = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if output is not None:
            os.dup2(output, 1)
            os.close(output)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(path: str, what: str) -> Iterator[None]:
    """Let the model library read a folder, quietly; `what` says what of the folder it is not where it cannot."""
    with quiet_library():
        try:
            yield
        except BaseException as error:  # the library raises many kinds; a panic of its Rust is no `Exception`
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise InputError(f"{path}: {what}: {one_line(error)}") from error
            raise


SECONDS = 30.0
"""How long either may take, the start of the process included."""
CONVERSATION = (
    {"role": "user", "content": "What is the capital of France? Answer in one word."},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Italy?"},
)
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}


@lru_cache
def check_chat_template(template: str) -> None:
    """Refuse a chat template that does not come to an end within `SECONDS`; what it renders is not looked at."""
    _try_out(
        "render",
        template,
        refusal=f"the chat template was stopped after {SECONDS:g} seconds, still at work on a "
        f"conversation of {', '.join(turn['role'] for turn in CONVERSATION)}: it seems to loop for ever. Mend it, or "
        "give another template with --chat-template FILE",
    )


def _try_out(function: str, *given: Any, refusal: str) -> None:
    """Call a function of this module in a process of its own; InputError where it is still at work after `SECONDS`."""
    try:
        trial.try_in_child(f"{__name__}:{function}", *given, seconds=SECONDS)
    except TimeoutError as error:
        raise InputError(refusal) from error
    except RuntimeError:
        pass  # it cannot be tried here; its use reports what is wrong with it


def check_patterns(folder: str, base: str) -> None:
    """Refuse an adapter whose regular expressions do not come to an end on the names of its base model's modules."""
    adapter = Path(folder) / model_folder.ADAPTER
    try:
        config = dict(json.loads(adapter.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return  # no configuration, or none that can be read, which loading reports
    patterns = [config.get(name) for name in ("target_modules", "exclude_modules")]
    for name in ("rank_pattern", "alpha_pattern"):
        keys = config.get(name)
        patterns += map(_of_layers, keys) if isinstance(keys, dict) else []
    _check(tuple(one for one in patterns if isinstance(one, str) and one != "all-linear"), base, str(adapter))


def check_targets(targets: str | Sequence[str], base: str, patterns: Iterable[str] = ()) -> None:
    """The same for `lora.targets`, which may be an expression, and for the keys of `lora.rank_pattern` and the like."""
    if isinstance(targets, str) and targets != "all-linear":
        _check((targets,), base, f"lora.targets {targets!r}")
    _check(tuple(map(_of_layers, patterns)), base, "lora.rank_pattern, lora.alpha_pattern")


def _of_layers(key: str) -> str:
    """The expression that PEFT makes of a key of `rank_pattern` or `alpha_pattern`."""
    return rf".*\.({key})$"


def _check(patterns: tuple[str, ...], base: str, where: str) -> None:
    if patterns:
        _try_out(
            "match",
            patterns,
            sorted(_modules(base)),
            refusal=f"{where}: a regular expression was stopped after {SECONDS:g} seconds, still at work on the "
            f"modules of {base}: it is one of {', '.join(patterns)}. Write it without nested repetitions, or list the "
            "modules by name",
        )


def _modules(base: str) -> set[str]:
    """Names of the modules that hold a model's weights, and of those that they lie in."""
    from safetensors import SafetensorError, safe_open

    names: set[str] = set()
    for file in Path(base).glob("*.safetensors"):
        try:
            with safe_open(file, framework="np") as weights:
                for key in weights.keys():  # noqa: SIM118  # no mapping
                    parts = key.split(".")[:-1]
                    names.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        except (OSError, SafetensorError):
            continue  # loading reports it
    return names


def render(template: str) -> None:
    """Render a made-up conversation as transformers would, with and without a tool; what goes wrong is left unsaid."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks what the assistant says."""

        tags = {"generation"}  # noqa: RUF012  # as the library declares it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(["name:endgeneration"], drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **more: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: form}
    for tools in (None, [TOOL]):
        for turns in (CONVERSATION, CONVERSATION[:2]):
            given = {"messages": [dict(turn) for turn in turns], "tools": tools}
            try:
                environment.from_string(template).render(
                    **given, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
                )
            except Exception:  # it came to an end
                continue


def match(patterns: Iterable[str], names: Iterable[str]) -> None:
    """Look for each name by each pattern."""
    for pattern in patterns:
        try:
            compiled = re.compile(pattern)
        except re.error:
            continue  # its use reports it
        for name in names:
            compiled.fullmatch(name)
