"""`trueup annotate`: feedback judged by an annotator, or its chosen responses written anew."""

from __future__ import annotations

from typing import Any

import typer


def annotate(context: typer.Context) -> None:
    """Have the responses of feedback or samples judged; or replace chosen responses by demonstrations."""
    from trueup.cli.options import Form, run_form, typed
    from trueup.settings.gathering_settings import AnnotateSettings

    form = Form(
        "trueup annotate",
        annotate.__doc__ or "",
        AnnotateSettings,
        files="data",
        more={
            "show_template": "Print a template of an annotator, to be copied and changed, and do nothing else."
        },
    )

    def run(given: dict[str, Any], more: dict[str, str]) -> None:
        if name := more.get("show_template"):
            from trueup.gathering.templates import source_of

            typer.echo(source_of(name), nl=False)
            return
        settings = typed(AnnotateSettings, given, form)
        from trueup.display import Display, shown
        from trueup.gathering.annotate import annotate as annotated

        with shown():
            annotated(settings, Display())

    run_form(form, context, run)
