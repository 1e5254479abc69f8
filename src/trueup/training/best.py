"""The best step of a run, by a metric: which checkpoint is kept for the finished model, and when nothing gets better.

Held-out metrics are those of the weights after a step. The score of samples is that of the weights which wrote them,
those before the step that learns from them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trueup.metrics import FIGURES, GREATER
from trueup.settings.run_settings import RunSettings

EXTREME = {True: "greatest", False: "least"}


@dataclass
class Best:
    """What is known of a run's metric; all but its settings is in every checkpoint."""

    metric: str
    patience: int | None
    """Measurements in a row without a better one after which the run ends; None never ends it."""
    values: dict[str, float] = field(default_factory=dict)
    """Metrics of the best step; empty before there is one."""
    step: int | None = None
    """The best step."""
    last: int = -1
    """The step that was measured last."""
    stale: int = 0
    """Measurements since the best one."""

    @classmethod
    def of(cls, settings: RunSettings) -> "Best | None":
        """As the settings have it; None where they ask for none."""
        return cls(settings.best_by, settings.early_stopping) if settings.best_by else None

    @property
    def extreme(self) -> str:
        """Which value is the best one."""
        return EXTREME[FIGURES[self.metric.removeprefix("eval_")][1] == GREATER]

    @property
    def over(self) -> bool:
        """Whether the run is to end."""
        return self.patience is not None and self.stale >= self.patience

    def see(self, step: int, values: Mapping[str, float]) -> bool:
        """Whether the weights after a step are the best so far, by what was measured of them; a step counts once."""
        value = values.get(self.metric)
        if value is None or step <= self.last:
            return False
        known = self.values.get(self.metric)
        greater = self.extreme == EXTREME[True]
        better = value == value if known is None else value > known if greater else value < known
        self.last = step
        if not better:
            self.stale += 1
            return False
        self.step, self.values, self.stale = step, dict(values), 0
        return True

    def state(self) -> dict[str, Any]:
        """For a checkpoint; JSON-ready."""
        return asdict(self)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state."""
        self.step, self.last, self.stale = state["step"], int(state["last"]), int(state["stale"])
        self.values = dict(state["values"])

    def told(self) -> str:
        """The best step, for people."""
        return f"the {self.extreme} {self.metric} is {self.values[self.metric]:.6g}, after step {self.step}"
