"""Test accuracy of predictive coding less that of backprop, seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fathomx.experiments.grid import Group
from fathomx.experiments.strength.methods import PREDICTIVE_CODING, SUBSTANTIAL


class Difference(NamedTuple):
    """Test accuracy of a method less that of backprop, in points, for every seed that has both."""

    network: str
    method: str
    points: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.points)

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return statistics.stdev(self.points) if len(self.points) > 1 else 0.0

    @property
    def ahead(self) -> int:
        """For how many seeds predictive coding is ahead."""
        return sum(point > 0 for point in self.points)


def differences(found: Sequence[Group], network: str) -> dict[str, Difference]:
    """By method, the difference to backprop on the same seeds; diverged runs are left out."""
    accuracies = {
        group.method: {
            row["seed"]: 100 * row["test_accuracy"]
            for row in group.rows
            if row["test_accuracy"] is not None
        }
        for group in found
        if group.network == network
    }
    reference = accuracies.pop("backprop", {})
    paired = {
        method: tuple(own[seed] - reference[seed] for seed in sorted(own.keys() & reference.keys()))
        for method, own in accuracies.items()
    }
    return {m: Difference(network, m, points) for m, points in paired.items() if points}


def chosen_method(found: Sequence[Group], network: str) -> str | None:
    """The substantial strength with the best mean validation accuracy; `None` if none was run."""
    means = {
        group.method: group.mean("validation_accuracy")
        for group in found
        if group.network == network
        and group.method in SUBSTANTIAL
        and group.values("validation_accuracy")
    }
    return max(means, key=lambda method: means[method]) if means else None


def differences_table(found: Sequence[Group], networks: Sequence[str]) -> str:
    """Predictive coding less backprop in points, mean and standard deviation over the seeds.

    The last columns are of the substantial strength that validation chose.
    """
    lines = [
        "| setting | backprop, % | "
        + " | ".join(PREDICTIVE_CODING)
        + " | chosen of 0.3 and more | ahead |",
        "|---|---|" + "---|" * (len(PREDICTIVE_CODING) + 2),
    ]
    for network in networks:
        own = differences(found, network)
        base = [g for g in found if (g.network, g.method) == (network, "backprop")]
        cells = [f"{100 * base[0].mean('test_accuracy'):.1f}" if base else "-"]
        cells += [_signed(own.get(method)) for method in PREDICTIVE_CODING]
        chosen = chosen_method(found, network)
        best = own.get(chosen) if chosen else None
        cells += (
            [f"{chosen}: {_signed(best)}", f"{best.ahead} of {len(best.points)}"]
            if best
            else (["-", "-"])
        )
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _signed(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference.mean:+.1f}"
    return text if len(difference.points) == 1 else f"{text} ± {difference.deviation:.1f}"
