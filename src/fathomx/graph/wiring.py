"""Who predicts whom: the names in entries and feedbacks, resolved and checked."""

from __future__ import annotations

from fathomx.checks.names import near
from fathomx.graph.entries import Entry
from fathomx.graph.feedback import Feedback


def resolved_parents(entries: tuple[Entry, ...]) -> dict[str, tuple[str, ...]]:
    """Names of the parents of every entry; without any, the entry before.

    Raises `TypeError` and `ValueError` for what is no entry, and no order of parents and children.
    """
    for entry in entries:
        if not isinstance(entry, Entry):
            raise TypeError(f"entries must be Root, Node or Stack, not {type(entry).__name__}.")
    if sum(entry.depth > 0 for entry in entries) < 2:
        raise ValueError("a network needs at least two nodes: a hidden one and the output.")
    if entries[-1].batch_axis:
        raise ValueError("the last entry is the output and must be a Node, not a Stack.")
    if not entries[-1].depth:
        raise ValueError(
            f"the last entry is the output, but {entries[-1].name!r} is only given; put it before "
            "the entries that read it."
        )
    if not entries[0].is_root:
        raise ValueError(
            f"entry {entries[0].name!r} comes first, but has nothing to predict from; give "
            "input_shape for an input, or a Root as the first entry."
        )
    known: list[str] = []
    parents: dict[str, tuple[str, ...]] = {}
    for before, entry in zip((None, *entries), entries, strict=False):
        if entry.name in known:
            raise ValueError(f"node name {entry.name!r} is used twice or reserved; rename one.")
        resolved = entry.parents
        if not resolved and not entry.is_root and before is not None:
            resolved = (before.name,)
        for parent in resolved:
            if parent not in known:
                raise ValueError(
                    f"node {entry.name!r} names the parent {parent!r}, which does not come before "
                    f"it; parents must precede their children.{near(parent, known)}"
                )
        if entry.batch_axis and len(resolved) != 1:
            raise ValueError(f"stack {entry.name!r} needs exactly one parent, not {resolved}.")
        parents[entry.name] = tuple(resolved)
        known.append(entry.name)
    return parents


def resolved_feedbacks(
    feedbacks: tuple[Feedback, ...], entries: dict[str, Entry]
) -> tuple[Feedback, ...]:
    """The feedbacks as the network needs them.

    Raises `TypeError` and `ValueError` for what is no feedback, and for names that do not exist.
    """
    resolved: list[Feedback] = []
    for feedback in feedbacks:
        if not isinstance(feedback, Feedback):
            raise TypeError(f"feedbacks must be fx.Feedback, not {type(feedback).__name__}.")
        if feedback.name in entries or feedback.name in {f.name for f in resolved}:
            raise ValueError(f"the name {feedback.name!r} of a feedback is used twice; rename one.")
        for name in (feedback.of, *feedback.parents):
            if name not in entries:
                raise ValueError(
                    f"feedback {feedback.name!r} names {name!r}, which is no entry of the "
                    f"network.{near(name, entries)}"
                )
        resolved.append(feedback.bound(entries))
    return tuple(resolved)
