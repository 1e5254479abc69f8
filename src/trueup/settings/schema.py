"""What settings are made of, and what a type of them offers."""

import dataclasses
import datetime
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

STRICT_DATACLASS = ConfigDict(
    extra="forbid",
    allow_inf_nan=False,
    coerce_numbers_to_str=True,
    use_attribute_docstrings=True,
    protected_namespaces=(),
    hide_input_in_errors=True,
)


class Settings(BaseModel):
    """Typed settings; `check` raises ValueError where those that are right by themselves do not go together."""

    model_config = ConfigDict(**STRICT_DATACLASS, frozen=True)

    def check(self) -> None: ...

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self.check()
        return self


def unfit(why: str) -> PydanticCustomError:
    """An error whose message continues the setting's name, and does not show the value: it may be a secret."""
    return PydanticCustomError("unfit", "{why}", {"why": why})


def one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def modules_of(*package: str) -> tuple[str, ...]:
    """The modules of a package of trueup as values of a setting, in order of their names; none is imported."""
    folder = Path(__file__).parents[1].joinpath(*package)
    return tuple(sorted(one.name.replace("_", "-") for one in pkgutil.iter_modules([str(folder)])))


def _day(value: Any) -> Any:
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise unfit("must be a day such as 2026-11-30") from None


Plain = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Text = Annotated[Plain, Field(min_length=1)]
Texts = Annotated[tuple[Plain, ...], BeforeValidator(one_or_several)]
_several: Any = BeforeValidator(lambda one: one if isinstance(one, list | tuple) else (one,))
Numbers = Annotated[tuple[float, ...], _several]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Day = Annotated[str, BeforeValidator(_day)]
Affects = Literal["result", "examples", "nothing"]


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """Marks a setting with what it is beside its type; whatever asks for that reads it here.

    A setting without a mark changes the result, cannot change when a run is resumed, and is shown by `--help-all`
    alone. One inside another (`sampler.top_p`) affects and gathers what the outer one does.
    """

    heading: str = ""
    """For help and documentation: the heading of this setting and of those that follow it, up to the next heading."""
    common: bool = False
    """Shown by `--help`."""
    affects: Affects | None = None
    """`result`, the finished model or file; `examples`, which examples there are, and a run that replays them ends the
    same; or `nothing` but how the work is done and told."""
    gathers: bool = False
    """Has an effect only where a run samples and judges responses itself."""
    sources: tuple[str, ...] = ()
    """The sources of examples with which alone it has an effect; empty: with all."""
    held_out: bool = False
    """Has an effect only where something is measured on held-out feedback."""
    resume: bool = False
    """May change when a run is resumed, as it cannot change the result or only decides whether the run goes on at all.
    `threads` may not: sums in another order differ in the last bit."""
    pairs: bool = False
    """Texts with an equals sign each, of which several may follow the option's name: `--columns prompt=a label=b`."""
    escaped: bool = False
    r"""A text in which `\n`, `\t` and `\\` are read as escapes on the command line."""
    forms: str = ""
    """The names, in words, of a setting of several kinds that may be given as one name as well: `world:gold`."""


COMMON = Role(common=True)
SAME_RESULT = Role(affects="nothing")
RESUMES = Role(affects="nothing", resume=True)


def unescaped(text: str) -> str:
    r"""Return the text with `\n`, `\t` and `\\` as the characters they stand for; any other backslash stays."""
    meant = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
    return re.sub(r"\\[nt\\]", lambda found: meant[found[0]], text)


def _plain_url(url: str) -> str:
    readable, parts = False, None
    with suppress(ValueError):
        parts = urlsplit(url)
        readable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    if parts is not None and "@" in parts.netloc:
        raise unfit("holds a user's name or password; give the key in the variable that key_variable names instead")
    if not readable or parts is None:
        raise unfit("must be a URL, as in http://localhost:8000/v1")
    if parts.query or parts.fragment:
        raise unfit("must end with its path, as in http://localhost:8000/v1; key_variable names where the key is")
    return url


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise unfit("must be the name of an environment variable that holds the key, not the key itself")
    return name


def _shard(text: str) -> str:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 0 < int(number) <= int(of)):
        raise unfit("must be which share of how many, as in 3/16: from 1/16 to 16/16")
    return f"{int(number)}/{int(of)}"


Url = Annotated[str, AfterValidator(_plain_url)]
Urls = Annotated[tuple[Url, ...], BeforeValidator(one_or_several), Field(min_length=1)]
Shard = Annotated[str, AfterValidator(_shard)]
Variable = Annotated[str, AfterValidator(_variable)]


WORDS = {float: "number", int: "whole number", bool: "true or false", str: "text"}
BOUNDS = {Gt: ("gt", "greater than"), Ge: ("ge", "at least"), Lt: ("lt", "less than"), Le: ("le", "at most")}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting that a user can give, such as `reference.alpha`."""

    path: str
    """Dotted."""
    words: str = ""
    """The kind of value, in words; empty where only `choices` are allowed."""
    bounds: str = ""
    """The range allowed, in words; empty where there is none."""
    choices: tuple[str, ...] = ()
    several: bool = False
    """Takes several values."""
    default: Any = None
    """None where it is required or has no fixed default."""
    description: str = ""
    variants: tuple[str, ...] = ()
    """The kinds of its mapping that have this setting; empty where all have it."""
    role: Role = Role()
    """With what it has of the setting that it is inside."""

    @property
    def allowed(self) -> str:
        """What may be given, in words: `number greater than 0`, `linear | cosine`."""
        return " ".join(filter(None, (" | ".join(self.choices), self.words, self.bounds)))

    @property
    def owners(self) -> str:
        """Whose it is where not every kind has it: `annotator.kind local, openai`."""
        parent = self.path.rpartition(".")[0]
        return f"{parent}.kind {', '.join(self.variants)}" if self.variants else ""


def fields_of(kind: object) -> Mapping[str, FieldInfo] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        fields: Mapping[str, FieldInfo] = kind.__pydantic_fields__  # type: ignore[attr-defined]
        return fields
    return None


def settings_in(model: type[BaseModel]) -> list[Setting]:
    """List every setting of a model, those of nested mappings by their dotted paths, each path once."""
    by_path: dict[str, list[Setting]] = {}
    for setting in _of_fields(model.model_fields, "", None, ""):
        by_path.setdefault(setting.path, []).append(setting)
    return [_joined(settings) for settings in by_path.values()]


def _joined(settings: list[Setting]) -> Setting:
    """One setting of what several kinds have under one name; its description says which kinds have it."""
    first = settings[0]
    if not first.variants:
        return first
    by_text: dict[str, list[str]] = {}
    for one in settings:
        by_text.setdefault(one.description, []).extend(one.variants)
    same = len({(one.default, one.allowed) for one in settings}) == 1
    joined = dataclasses.replace(
        first if same else dataclasses.replace(first, bounds="", default=None),
        words=" or ".join(dict.fromkeys(one.words for one in settings if one.words)),
        choices=tuple(dict.fromkeys(choice for one in settings for choice in one.choices)),
        variants=tuple(kind for one in settings for kind in one.variants),
    )
    told = f"{first.description} For {joined.owners}."
    if len(by_text) > 1:
        told = " ".join(f"{', '.join(kinds)}: {text}" for text, kinds in by_text.items())
    return dataclasses.replace(joined, description=told)


def _of_fields(
    fields: Mapping[str, FieldInfo], prefix: str, instance: object, variant: str, outer: Role = Role()
) -> Iterator[Setting]:
    heading = outer.heading
    for name, field in fields.items():
        default = getattr(instance, name, None if field.is_required() else field.default)
        role = next((mark for mark in field.metadata if isinstance(mark, Role)), Role())
        heading = role.heading or heading
        affects, gathers = role.affects or outer.affects or "result", role.gathers or outer.gathers
        role = dataclasses.replace(role, heading=heading, affects=affects, gathers=gathers)
        yield from _of_field(f"{prefix}{name}", field, default, variant, role)


def _of_field(path: str, field: FieldInfo, default: Any, variant: str, role: Role) -> Iterator[Setting]:
    members = [member for member, _ in _members(field.annotation)]
    nested = {member: fields for member in members if (fields := fields_of(member)) is not None}
    outer = Setting(
        path=path,
        description=" ".join((field.description or "").split()),
        variants=(variant,) if variant else (),
        role=role,
    )
    if not nested:
        yield _leaf(outer, field, default)
        return
    if len(nested) == 1:
        if default is None and not field.is_required():
            yield dataclasses.replace(outer, words="true or false")
        (inner,) = nested.values()
        yield from _of_fields(inner, f"{path}.", default, variant, role)
        return
    if role.forms:
        about = f"{outer.description.removesuffix('.')}: {role.forms}."
        yield dataclasses.replace(outer, words="name", description=about)
    kinds = {str(get_args(fields["kind"].annotation)[0]): fields for fields in nested.values()}
    first_lines = ((inspect.getdoc(member) or "").partition("\n")[0] for member in nested)
    means = " ".join(f"{kind}: {line}" for kind, line in zip(kinds, first_lines, strict=True))
    yield dataclasses.replace(
        outer,
        path=f"{path}.kind",
        choices=tuple(kinds),
        default=getattr(default, "kind", None),
        description=means if role.forms else f"{outer.description} {means}".strip(),
        variants=(),
        role=dataclasses.replace(role, common=role.common and not role.forms),
    )
    for kind, fields in kinds.items():
        inner = {name: inside for name, inside in fields.items() if name != "kind"}
        yield from _of_fields(inner, f"{path}.", default if type(default) in nested else None, kind, role)


def _leaf(outer: Setting, field: FieldInfo, default: Any) -> Setting:
    words: list[str] = []
    choices: list[str] = []
    constraints = list(field.metadata)
    several = False
    for member, metadata in _members(field.annotation):
        constraints += metadata
        if get_origin(member) is tuple:
            several = True
            ((member, _), *_) = _members(get_args(member)[0])
        if get_origin(member) is Literal:
            choices += get_args(member)
        elif (word := WORDS.get(member, "text")) not in words:
            words.append(word)
    bounds = []
    for mark in constraints:
        for constraint in mark.metadata if isinstance(mark, FieldInfo) else [mark]:
            attribute, phrase = BOUNDS.get(type(constraint), ("", ""))
            bounds += [f"{phrase} {getattr(constraint, attribute):g}"] if phrase else []
    made = dataclasses.replace(outer, choices=tuple(choices), several=several, default=default)
    return dataclasses.replace(made, words=" or ".join(words), bounds=" and ".join(bounds))


def _members(annotation: Any, metadata: tuple[Any, ...] = ()) -> list[tuple[Any, tuple[Any, ...]]]:
    """The members of a union but None, each with its constraints; the annotation itself if it is no union."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _members(inner, (*metadata, *more))
    if get_origin(annotation) in (Union, types.UnionType):
        return [pair for member in get_args(annotation) for pair in _members(member, metadata)]
    return [] if annotation is types.NoneType else [(annotation, metadata)]
