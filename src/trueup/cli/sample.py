"""`trueup sample`: candidates for a file of prompts, written by models or a server, judged if asked."""

from __future__ import annotations

from typing import Any

import typer


def sample(context: typer.Context) -> None:
    """Sample responses to prompts from one or several models, and put them together as feedback."""
    from trueup.cli.options import Form, run_form, typed
    from trueup.settings.gathering_settings import SampleSettings

    form = Form(
        "trueup sample",
        sample.__doc__ or "",
        SampleSettings,
        short="sampler",
        left_out=frozenset({"sampler.models", "sampler.resync"}),
        files="data",
    )

    def run(given: dict[str, Any], more: dict[str, str]) -> None:
        settings = typed(SampleSettings, given, form)
        from trueup.display import Display, shown
        from trueup.gathering.sample import sample as sampled

        with shown():
            sampled(settings, Display())

    run_form(form, context, run)
