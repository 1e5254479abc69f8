"""`trueup sample`: candidates for a file of prompts, written by models or a server, judged if asked."""

from __future__ import annotations

import typer


def sample(context: typer.Context) -> None:
    """Sample responses to prompts from one or several models, and put them together as feedback."""
    from trueup.cli.options import Command, print_help, typed
    from trueup.settings.gathering_settings import SampleSettings
    from trueup.settings.schema import settings_in

    settings = {
        one.path.removeprefix("sampler."): one
        for one in settings_in(SampleSettings)
        if one.path not in ("sampler.models", "sampler.resync")
    }
    command = Command("trueup sample", settings, files="data")
    given = command.read(context.args)
    if given.help:
        print_help(command, [sample.__doc__ or ""], settings.items())
        return
    typed_settings = typed(SampleSettings, command.layer(given), command, short="sampler")
    from trueup.display import shown
    from trueup.gathering import candidates

    with shown():
        candidates.sample(typed_settings)
