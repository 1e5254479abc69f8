"""Layouts of single public data sets."""

from trueup.feedback.layouts.data_sets import (
    fine_grained_rlhf,
    gsm8k_solutions,
    helpsteer,
    helpsteer3,
    nectar,
    open_instruct,
    shp,
    summaries,
    truthful_qa,
    ultrafeedback,
    unieval,
)
from trueup.feedback.layouts.layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    ultrafeedback.LAYOUT,
    nectar.LAYOUT,
    shp.LAYOUT,
    helpsteer.RATINGS,
    helpsteer.PREFERENCES,
    helpsteer3.LAYOUT,
    summaries.COMPARISONS,
    summaries.RATINGS,
    fine_grained_rlhf.LAYOUT,
    open_instruct.LAYOUT,
    truthful_qa.LAYOUT,
    gsm8k_solutions.LAYOUT,
    unieval.LAYOUT,
)
"""Of single public data sets: each has keys of its own, which say more than those they share with others."""
