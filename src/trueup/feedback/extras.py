"""Packages that only some sources of feedback need; asked for when one of these is met."""

from importlib.util import find_spec

from trueup.errors import InputError


def need(package: str, name: str) -> None:
    """Make sure that a package is installed before it is imported.

    Args:
        package: as it is imported and installed, `pyarrow`.
        name: the source of feedback that needs it, for the message.

    Raises:
        InputError: it is not installed; with the command that installs it.
    """
    try:
        found = find_spec(package) is not None
    except ValueError:  # a test or a tool has put None or a stub in its place
        found = False
    if not found:
        raise InputError(
            f"{name}: reading this needs the package {package}, which is not installed; "
            "pip install 'trueup[data]'"
        )
