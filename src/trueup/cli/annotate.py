"""`trueup annotate`: feedback judged by an annotator, or its chosen responses written anew."""

from __future__ import annotations

import typer

MORE = {
    "show_template": (
        "NAME",
        "Print a template of an annotator, to be copied and changed, and do nothing else.",
    )
}


def annotate(context: typer.Context) -> None:
    """Have the responses of feedback or samples judged; or replace chosen responses by demonstrations."""
    from trueup.cli.options import Command, print_help, typed
    from trueup.settings.gathering_settings import AnnotateSettings
    from trueup.settings.schema import settings_in

    settings = {one.path: one for one in settings_in(AnnotateSettings)}
    command = Command("trueup annotate", settings, files="data", more=MORE)
    given = command.read(context.args)
    if given.help:
        print_help(command, [annotate.__doc__ or ""], settings.items())
        return
    if name := given.more.get("show_template"):
        from trueup.annotators.template import template_source

        typer.echo(template_source(name), nl=False)
        return
    typed_settings = typed(AnnotateSettings, command.layer(given), command)
    from trueup.display import shown
    from trueup.gathering import annotation

    with shown():
        annotation.annotate(typed_settings)
