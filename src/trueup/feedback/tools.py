"""The tools a row declares: JSON schemas for the chat template, as a list or as JSON text that holds one."""

from collections.abc import Mapping

from trueup.feedback.fields import Place, fields, items
from trueup.feedback.lines import Fault, first_fault, parsed
from trueup.feedback.records import Content, Tools
from trueup.words import shortened

SCHEMAS = "JSON schemas of tools"


def declared(row: Mapping[str, object], prompt: Content, place: Place) -> Tools:
    """The tools under the key `tools` of a row; none where it is absent, null, an empty list or empty text.

    Raises:
        InputError: it is something else, or the prompt is raw text, which no chat template renders.
    """
    value, at = row.get("tools"), place.key("tools")
    listed = [] if value is None or value == "" else items(_parsed(value, at), at, SCHEMAS)
    found = tuple(fields(one, at.item(index)) for index, one in enumerate(listed))
    if found and isinstance(prompt, str):
        raise at.fault(
            "tools are for a chat template, but the prompt is raw text, which none renders; give the prompt as "
            "messages, or leave the key out"
        )
    return found


def _parsed(value: object, place: Place) -> object:
    if not isinstance(value, str):
        return value
    try:
        found, end, repeated = parsed(value, 0)
    except Fault as error:
        raise place.unexpected(value, f"a list of {SCHEMAS}, or JSON text that holds one") from error
    if value[end:].strip():
        raise place.fault(f"more text after the end of the list: {shortened(value[end:].strip())}")
    if repeated:
        raise place.fault(f"the key {shortened(repeated[0])} stands twice in one object; keep one of them")
    if fault := first_fault(found, ""):
        raise place.fault(fault)
    return found
