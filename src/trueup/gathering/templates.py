"""Templates that come with trueup, of whatever kind, by name."""

from __future__ import annotations

from trueup.annotators.templates import TEMPLATES, template_source
from trueup.errors import InputError
from trueup.gathering.rewriting import asking
from trueup.words import did_you_mean

NAMES = (*TEMPLATES, asking.IMPROVE)


def source_of(name: str) -> str:
    """The text of a template, to be copied and changed.

    Raises:
        InputError: there is none of this name.
    """
    if name not in NAMES:
        raise InputError(
            f"there is no template {name!r}{did_you_mean(name, NAMES, quoted=True)}; there are {', '.join(NAMES)}"
        )
    return asking.source_of(name) if name == asking.IMPROVE else template_source(name)
