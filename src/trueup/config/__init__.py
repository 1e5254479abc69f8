"""Settings of a run, resolved: files, overrides and TRL's names, and what a run needs before torch is imported."""
