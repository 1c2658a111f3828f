"""Interchangeable ways to run one stage for one chunk of time: plain step loop, time folded into the batch, event-driven."""

from collections.abc import Callable
from functools import partial

import torch

from msat.backends.base import Backend, Session, Traffic
from msat.backends.events import Events
from msat.backends.folded import Folded
from msat.backends.step import Step
from msat.errors import UserError, unknown_name

__all__ = ["BACKENDS", "Backend", "Events", "Folded", "Session", "Step", "Traffic", "choose"]

BACKENDS: dict[str, Callable[[], Backend]] = {
    "events": Events,
    "folded": Folded,
    "folded-tf32x3": partial(Folded, three=True),
    "step": Step,
}


def choose(name: str | None = None, device: str = "cpu") -> Backend:
    """Return a backend by name, or the fastest one for a device: events on a CPU, folded on a GPU.

    Raises:
        UserError: no backend has this name (similar ones are suggested), or it does not run on the device.
    """
    on_cpu = torch.device(device).type == "cpu"
    name = name or ("events" if on_cpu else "folded")
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "events" and not on_cpu:
        raise UserError(f"backend 'events' runs on a CPU, not on {device}; leave BACKEND away or use BACKEND=folded.")
    return BACKENDS[name]()
