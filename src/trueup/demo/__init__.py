"""The demo: a small model made on the spot, aligned several ways, and a table of what came of it."""

from trueup.demo.run import run

__all__ = ["run"]
