"""What a run shows, in plain sentences that claim no more than its numbers do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fathomx.checks import gate
from fathomx.records.values import finite
from fathomx.report.scores import label, metrics_of, shown
from fathomx.report.thresholds import DISGUISE, FAR, SETTLED
from fathomx.report.wording import quarter_sentences, short, target_sentences

_STIFFENED = 5.0
# How many times a sensitivity may change; in trainings that went well it was within 10.
_DRIFTED = 100.0
# A nudge stability of a half: the most sensitive direction is taught a third too strongly.
_LARGE_NUDGE = 0.5
_ENERGY = "energy"
# Models that infer what they generate from.
_GENERATIVE = ("decoder", "decoder-cnn", "bidirectional", "bidirectional-cnn")
# Both the precision of a batch and the strength reported are Monte Carlo estimates. One of a batch
# of n examples was measured to scatter by 0.4 / sqrt(n); the one at the end is a mean of eight.
_HELD_WITHIN = 0.25
_SCATTER, _SCATTERS, _FINAL_DRAWS = 0.4, 5, 8


@gate
def verdict(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a run shows, in plain sentences.

    **Arguments**

    * `config` and `summary`: as in the run folder; `summary` may be empty.
    * `history`: the records of `metrics.jsonl`, or only those of epochs, as `FitResult.history`.

    It claims nothing that the numbers do not show: what is null is called unknown.

    ```python
    for sentence in verdict(config, result.summary, result.history):
        print(sentence)
    ```
    """
    if not summary:
        return ["The run has not finished: there is no summary yet, so there is no verdict."]
    said = [_score_sentence(summary)]
    loss = finite(summary.get("test_loss"))
    if loss is not None and config.get("context"):
        said[0] += f" Test loss: {loss:.4f} nats per token."
    said += _choice_sentences(summary)
    if config.get("learning") == "backprop":
        said.append("There was no inference: this run learned by backprop.")
        return [*said, *_notes(history), *_lost(summary, history)]
    said += _settled_sentences(config, summary)
    said += _cosine_sentences(config, summary, history)
    said.append(_strength_sentence(config, summary, history))
    said += _sensitivity_sentences(config, summary, history)
    said += [*_notes(history), *_lost(summary, history)]
    return said + _nudge_sentences(summary)


def _nudge_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Whether two nudges have equilibria, and how much their difference exaggerates."""
    nudge = finite(summary.get("nudge_stability"))
    if nudge is None or nudge <= _LARGE_NUDGE:
        return []
    if nudge >= 1:
        return [
            f"The negative nudge had no equilibrium at the end (nudge stability {short(nudge)}, "
            "which must stay below 1): use a smaller nudge or strength."
        ]
    times = 1 / (1 - nudge**2)
    return [
        f"The nudges were large at the end (nudge stability {short(nudge)}): on a linear network "
        f"their equilibria teach the largest errors {times:.3g} times as strongly as backprop, and "
        "reward one that is less sensitive; use a smaller nudge or strength."
    ]


def _notes(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was said while the run went on, each sentence once."""
    texts = (record["text"] for record in history if record.get("kind") == "note")
    return [f"{text[:1].upper()}{text[1:]}" for text in dict.fromkeys(texts)]


def _lost(summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many epochs have left no record, where the records of a run are whole otherwise."""
    epochs = finite(summary.get("epochs"))
    known = len({r.get("epoch") for r in history if r.get("kind", "epoch") == "epoch"})
    if epochs is None or known >= epochs:
        return []
    return [f"Records of {epochs - known:.0f} of {epochs:.0f} epochs are lost."]


def _score_sentence(summary: Mapping[str, Any]) -> str:
    """The metrics on the test set, or where none is known what else is."""
    if "epochs" in summary and not any(
        finite(value) is not None for name, value in summary.items() if name.startswith("test_")
    ):
        return "There is no test score."
    parts = []
    for key in metrics_of(summary):
        test, validation = (summary.get(f"{part}_{key}") for part in ("test", "validation"))
        if key != _ENERGY and finite(test) is not None:
            aside = (
                "" if finite(validation) is None else f" ({shown(key, validation)} in validation)"
            )
            parts.append(f"{label(key)}: {shown(key, test)}{aside}")
    if parts:
        return f"Test {', '.join(parts)}."
    other = {name: finite(summary.get(f"test_{name}")) for name in ("loss", _ENERGY)}
    known = [f"test {name} {short(v)}" for name, v in other.items() if v is not None]
    if known and (other[_ENERGY] is not None or "test_accuracy" not in summary):
        return f"{', '.join(known).capitalize()}."
    return "The test accuracy is unknown."


def _choice_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Why training ended before its last epoch, and which weights the scores are of."""
    epochs, best, why = (summary.get(name) for name in ("epochs", "best_epoch", "ended"))
    said = [f"Training ended after epoch {epochs}, because {why}."] if why else []
    if best is not None:
        by = str(summary.get("best_by")).replace("_", " ")
        said.append(
            f"The weights are those of epoch {best}, the best of {epochs} by validation {by}."
        )
    decay = finite(summary.get("average"))
    if decay is not None:
        said.append(
            f"They are averages over the steps (decay {decay:g})."
            if best is not None
            else f"The weights are averages over the steps (decay {decay:g})."
        )
    return said


def _settled_sentences(config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    if config.get("inference") == "langevin":
        return ["Weights learned from samples of the activities, which are not meant to settle."]
    unsettled = summary.get("unsettled") or {}
    median, worst = finite(unsettled.get("median")), finite(unsettled.get("max"))
    if median is None:
        return ["How settled inference was is unknown: there was no inference, or it failed."]
    best = summary.get("best_epoch")
    when = "the last epoch" if best is None else f"epoch {best}"
    found = summary.get("certified") or {}
    steps, of = finite(found.get("steps")), finite(found.get("of"))
    if steps is not None and of is not None and steps < of:
        when += f" ({steps:.0f} of its {of:.0f} steps were certified)"
    kept = (
        f"In {when}, inference left the median example with {short(median)} of the energy gradient "
        "it started from"
    )
    kept += f", the worst example with {short(worst)}" if worst is not None else ""
    if median > 1:
        meaning = (
            "inference moved away from equilibrium, so the results say nothing about equilibrium "
            "predictive coding; lower the activity rate, hold a smaller strength, or use "
            "Gauss-Newton or Newton"
        )
    elif median > FAR:
        meaning = (
            "the activities were far from equilibrium, so the results say little about "
            "equilibrium predictive coding"
        )
    elif median <= SETTLED:
        meaning = "inference reached equilibrium for the median example"
    else:
        meaning = "inference went toward equilibrium without quite reaching it"
    said = [f"{kept}: {meaning}."]
    if median > SETTLED and "relu" in str(config.get("activation", "")).lower():
        said.append(
            "ReLU-like activations have kinks, where that gradient need not vanish even at "
            "equilibrium; judge by the energies."
        )
    return said


def _cosine_sentences(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[str]:
    cosine = finite(summary.get("cosine_to_backprop"))
    if cosine is None and config.get("model") in _GENERATIVE:
        return ["There is no backprop to compare with: what is learned from is inferred."]
    if cosine is None:
        return ["How close the weight update was to backprop's is unknown."]
    if cosine > DISGUISE:
        meaning = "this run is close to backprop in disguise"
    elif cosine > 0:
        meaning = "a different update, though it points backprop's way"
    else:
        meaning = "a different update, which does not follow backprop's direction"
    best = summary.get("best_epoch")
    when = "at the end" if best is None else f"after epoch {best}"
    said = [f"The cosine of the weight update to backprop's was {short(cosine)} {when}: {meaning}."]
    said += quarter_sentences(summary)
    ends = [record for record in history if "cosine_to_backprop_per_node" in record]
    if best is not None:
        ends = [record for record in ends if record.get("epoch") == best]
    per_node = (ends[-1]["cosine_to_backprop_per_node"] or []) if ends else []
    known = [(value, n) for n, value in enumerate(map(finite, per_node), 1) if value is not None]
    if len(known) > 1:
        lowest, node = min(known)
        none = len(per_node) - len(known)
        without = none and f"; {none} nodes have none, for they have no weights or no update"
        said.append(
            f"The lowest cosine of a single node was {short(lowest)}, at node {node} of "
            f"{len(per_node)}{without or ''}."
        )
    return said + target_sentences(summary)


def _strength_sentence(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    final = finite(summary.get("pc_strength"))
    if final is None:
        return "The strength is unknown."
    precision = finite(config.get("output_precision"))
    if precision is None:
        return _held_sentence(config, final, history)
    if config.get("model") in _GENERATIVE:
        return f"The output precision was fixed at {short(precision)}."
    start, whence = _first_strength(history)
    fixed = f"The output precision was fixed at {short(precision)}"
    if start is None:
        return f"{fixed}; the strength ended at {short(final)}, from where is unknown."
    moved = f"the strength went from {short(start)} {whence} to {short(final)}"
    if start > 0 and final / start > _STIFFENED:
        times = f"{final / start:.3g} times"
        return f"{fixed} and {moved}, {times} as much: the network stiffened."
    return f"{fixed}; {moved}."


def _held_within(config: Mapping[str, Any], draws: int) -> float:
    """How far from the wanted strength an estimate of so many draws may lie, relative to it."""
    batch = finite(config.get("batch_size")) or 1.0
    return max(_HELD_WITHIN, _SCATTERS * _SCATTER / math.sqrt(batch * draws))


def _held_sentence(
    config: Mapping[str, Any], final: float, history: Sequence[Mapping[str, Any]]
) -> str:
    wanted = finite(config.get("strength"))
    if wanted is None:
        return f"The strength ended at {short(final)}."
    if abs(final - wanted) > _held_within(config, _FINAL_DRAWS) * wanted:
        return (
            f"The strength was to be held at {short(wanted)} but ended at {short(final)}: it was "
            "not held."
        )
    recorded = _per_step(history, "strength")
    within = _held_within(config, 1) * wanted
    if recorded and max(abs(value - wanted) for value in recorded) > within:
        low, high = short(min(recorded)), short(max(recorded))
        return (
            f"The strength was to be held at {short(wanted)} and ended there, but ranged from "
            f"{low} to {high} on the way."
        )
    precision = _per_step(history, "output_precision")
    every = finite(config.get("strength_every"))
    how = "by choosing the output precision of every batch"
    if every is not None and every > 1:
        how = f"by an output precision that was measured every {every:.0f} updates"
    if precision:
        how += f", which went from {short(precision[0])} to {short(precision[-1])}"
    return f"The strength was held at {short(wanted)} {how}."


def _sensitivity_sentences(
    config: Mapping[str, Any], summary: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a held strength hides: how much more or less sensitive the network has become."""
    if finite(config.get("strength")) is None:
        return []
    best = finite(summary.get("best_epoch"))
    until = [r for r in history if best is None or (finite(r.get("epoch")) or 0) <= best]
    precision = _per_step(until, "output_precision")
    if not precision or min(precision) <= 0:
        return []
    grown = precision[0] / precision[-1]
    if 1 / _DRIFTED <= grown <= _DRIFTED:
        return []
    times = max(grown, 1 / grown)
    way = "more" if grown > 1 else "less"
    count = f"{times:,.0f}" if times < 1e4 else f"{times:.1e}"
    return [
        f"Over training the network became {count} times {way} sensitive, which a held strength "
        f"does not show{_rewarded(config, summary, until, way)}."
    ]


def _rewarded(
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    way: str,
) -> str:
    """The end of a sentence: where the rule rewards what the network has become, and the remedy."""
    unsettled = finite((summary.get("unsettled") or {}).get("median"))
    settled = unsettled is not None and unsettled <= FAR
    generates = config.get("model") in _GENERATIVE or config.get("inference") == "langevin"
    if way == "more" and config.get("learning") == "equilibrium" and settled and not generates:
        return (
            " and the energy at equilibrium rewards by itself: if the network learns badly, learn "
            "by equilibrium-errors, which has no such reward, or hold a smaller strength"
        )
    nudges = [finite(record.get("nudge_stability")) or 0.0 for record in (*history, summary)]
    if way == "less" and max(nudges) > _LARGE_NUDGE:
        return " and large nudges reward by themselves: hold a smaller strength"
    return ""


def _first_strength(history: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The earliest strength on record and when that was."""
    steps = _per_step(history, "strength")
    if steps:
        return steps[0], "at the first step"
    for record in history[:-1]:
        strength = finite(record.get("pc_strength"))
        if strength is not None:
            return strength, f"after epoch {record.get('epoch', 1)}"
    return None, ""


def _per_step(history: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    lists = [record[name] for record in history if isinstance(record.get(name), list)]
    numbers = [finite(value) for values in lists for value in values]
    return [number for number in numbers if number is not None]
