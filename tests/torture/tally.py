"""What a campaign counts: how many attempts of each kind ended how, and every fault in words."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Tally:
    """The outcomes of one campaign.

    **Fields**

    * `name` and `seed`: with both, the campaign can be repeated.
    * `counts`: by kind of attempt and outcome, in words such as `"bit-identical"`, `"refused"`.
    * `faults`: one sentence for each attempt that did not end as it must, with what repeats it.
    """

    name: str
    seed: int
    counts: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    faults: list[str] = dataclasses.field(default_factory=list)

    def note(self, kind: str, outcome: str) -> None:
        """Counts an attempt that ended as it should."""
        self.counts[kind, outcome] += 1

    def fault(self, kind: str, what: str) -> None:
        """Counts an attempt that did not, and keeps what is wrong about it."""
        self.counts[kind, "fault"] += 1
        self.faults.append(f"{kind}: {what}")

    @property
    def tried(self) -> int:
        """How many attempts there were."""
        return self.counts.total()

    def write(self, folder: Path) -> None:
        """Writes `NAME.json` into the folder, and the table of all campaigns that lie there."""
        folder.mkdir(parents=True, exist_ok=True)
        kinds: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            kinds.setdefault(kind, {})[outcome] = count
        content = {
            "campaign": self.name,
            "seed": self.seed,
            "tried": self.tried,
            "counts": kinds,
            "faults": self.faults,
        }
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
        (folder / "table.md").write_text(table(found), encoding="utf-8")


def table(campaigns: list[dict[str, Any]]) -> str:
    """A line for every kind of attempt: how many there were and how they ended."""
    lines = ["| campaign | seed | kind | tried | how they ended |", "|---|---|---|---|---|"]
    for found in campaigns:
        for kind, outcomes in found["counts"].items():
            ended = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())
            tried = sum(outcomes.values())
            lines.append(f"| {found['campaign']} | {found['seed']} | {kind} | {tried} | {ended} |")
    return "\n".join(lines) + "\n"
