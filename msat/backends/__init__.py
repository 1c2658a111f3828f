"""Interchangeable ways to run one stage for one chunk of time: plain step loop, time folded into the batch, event-driven."""

from msat.backends.base import Backend, Session, Traffic
from msat.backends.folded import Folded
from msat.backends.step import Step

__all__ = ["Backend", "Folded", "Session", "Step", "Traffic"]
