"""Errors that a user can mend: one sentence that says what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake of the caller; the command line prints it without a traceback and exits with code 2."""


class UnsupportedNetwork(UserError):
    """The network holds an operation that has no exact spiking counterpart."""


class MissingData(UserError):
    """A data set is absent, incomplete or damaged where real data were asked for."""


class Skip(Exception):
    """A cell that cannot be run by rule (not a fault): its reason goes into the record."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for an unknown name, with the nearest known names and the whole list."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {kind} '{name}': {hint}known are {', '.join(names)}.")
