"""How a check fails: with what is wrong and what to do. Imports no torch, and no test runner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class ConformanceError(AssertionError):
    """A model does not keep the contract; the message says what is wrong and what to do."""


def check(is_kept: bool, fault: str, remedy: str) -> None:
    """Fail with a fault and its remedy unless the contract is kept.

    Raises:
        ConformanceError: It is not kept.
    """
    __tracebackhide__ = True  # pytest then points at the check, not here
    if not is_kept:
        raise ConformanceError(f"{fault}; {remedy}")


@contextmanager
def explained(fault: str, remedy: str) -> Iterator[None]:
    """Turn any error of the body into one that says which part of the contract it breaks.

    Raises:
        ConformanceError: The body raised; its error is the cause.
    """
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConformanceError(f"{fault} ({type(error).__name__}: {text}); {remedy}") from error


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Return the first few names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more
