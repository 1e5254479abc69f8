"""Pages about runs: self-contained HTML that asks nothing of any network."""
