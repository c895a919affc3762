"""Weights that several entries have in common."""

from __future__ import annotations

import equinox as eqx
import jax

from fathomx.graph.entries import Entry
from fathomx.graph.feedback import Feedback

Share = tuple[tuple[str, str], ...]


def check_separate(
    entries: tuple[Entry, ...], feedbacks: tuple[Feedback, ...], share: Share
) -> tuple[Entry, ...]:
    """The entries, those that share without arrays of their own.

    Raises `ValueError` for names that are unknown, chains of sharing, and for one array in two
    entries that do not share: as two sets of weights it would come apart in training.
    """
    known = {entry.name: entry for entry in entries}
    pairs = dict(share)
    for name, owner in share:
        for given in (name, owner):
            if given not in known:
                raise ValueError(
                    f"share={{{name!r}: {owner!r}}} names {given!r}, which is no entry of the "
                    "network."
                )
        if owner in pairs or owner == name:
            raise ValueError(
                f"share={{{name!r}: {owner!r}}}: {owner!r} shares a function itself; name the "
                "entry that owns it."
            )
        if known[name].batch_axis != known[owner].batch_axis or known[name].is_root:
            raise ValueError(
                f"share={{{name!r}: {owner!r}}}: only entries of one kind can share, a Node with a "
                "Node or a Stack with a Stack."
            )
        own, owned = (_forms(known[each].learned_function()) for each in (name, owner))
        if own and own != owned:
            raise ValueError(
                f"share={{{name!r}: {owner!r}}}: {name!r} has weights of the shapes {own}, and "
                f"{owner!r} of {owned}; give both the same function."
            )
    seen: dict[int, str] = {}
    for part in (*entries, *feedbacks):
        if part.name in pairs:
            continue
        for leaf in jax.tree.leaves(eqx.filter(part.learned_function(), eqx.is_inexact_array)):
            other = seen.setdefault(id(leaf), part.name)
            if other != part.name:
                raise ValueError(
                    f"{part.name!r} and {other!r} hold the same array, which would become two sets "
                    f"of weights; give share={{{part.name!r}: {other!r}}} to fx.Network to tie "
                    "them, or a copy to each."
                )
    return tuple(
        entry.with_function(_empty(entry.learned_function())) if entry.name in pairs else entry
        for entry in entries
    )


def with_shared(entries: tuple[Entry, ...], share: Share) -> tuple[Entry, ...]:
    """The entries, those that share with the function of their owner."""
    if not share:
        return entries
    owners = {entry.name: entry for entry in entries}
    pairs = dict(share)
    return tuple(
        entry.with_function(owners[pairs[entry.name]].learned_function())
        if entry.name in pairs
        else entry
        for entry in entries
    )


def _forms(function: object) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(eqx.filter(function, eqx.is_array))]


def _empty(function: object) -> object:
    """A function without its arrays, which are those of its owner."""
    return jax.tree.map(lambda leaf: None if eqx.is_array(leaf) else leaf, function)
