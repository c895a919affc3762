"""Campaigns that try to break the project: `python tests/torture [NAME ...] [--seed N]`.

Each leaves its counts and its faults in `tests/torture/results/`; the exit code is 1 if there are
faults. Without a name all of them run, which takes hours on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

CAMPAIGNS = ("kills", "flips", "files", "full_disk", "locks", "arguments", "command_lines")
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CAMPAIGNS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--count", type=int, help="attempts; the campaign's own number unless given"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the counts")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in CAMPAIGNS:
            parser.error(f"there is no campaign {name!r}; choose of {', '.join(CAMPAIGNS)}.")
    faults = 0
    for name in chosen.names or CAMPAIGNS:
        campaign = importlib.import_module(name)
        tally = campaign.run(chosen.seed, chosen.count or campaign.COUNT)
        tally.write(chosen.results)
        faults += len(tally.faults)
        print(f"{name}: {tally.tried} tried, {len(tally.faults)} faults", flush=True)
        for fault in tally.faults[:20]:
            print(f"  {fault}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
