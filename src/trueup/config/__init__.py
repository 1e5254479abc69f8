"""Settings of a run, resolved: files, overrides and TRL's names, and what a run needs before torch is imported."""


def document() -> str:
    """Return docs/settings.md: every setting of a run and of each method, and every name of TRL's."""
    from trueup.config.page import render

    return render()
