"""Interchangeable ways to run one stage for one chunk of time: plain step loop, time folded into the batch, event-driven."""

from msat.backends.base import Backend, Session, Traffic
from msat.backends.events import Events
from msat.backends.folded import Folded
from msat.backends.step import Step
from msat.errors import unknown_name

__all__ = ["BACKENDS", "Backend", "Events", "Folded", "Session", "Step", "Traffic", "choose"]

BACKENDS: dict[str, type[Backend]] = {"events": Events, "folded": Folded, "step": Step}


def choose(name: str) -> Backend:
    """Return a backend by name; an unknown name gets suggestions."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    return BACKENDS[name]()
