"""Fathomx beside FabricPC, PCX, JPC and plain JAX: training steps and time to equilibrium.

Run all of it with `make bench-peers`, or a part with

    python benchmarks/peers --cases residual-8-width-128 --libraries fathomx fabricpc --rounds 5

Every library runs in a virtual environment of its own, kept in the cache folder. Results are
merged into `benchmarks/results/peers.json`, from which the table and the figure are made. On a card

    FATHOMX_PEERS=here python benchmarks/peers --accelerator

measures larger networks in three precisions, all libraries in this environment, into
`benchmarks/results/accelerator.json`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence

import report
from cases import ACCELERATOR_CASES, BY_NAME, CASES, FATHOMX, LIBRARIES, RACES, skipped
from environments import python_of
from protocol import WorkerError
from racing import race_to_equilibrium
from training import training_steps


def main() -> None:
    """Measures what the command line asks for and reports everything measured so far."""
    # The report asks which device this is, and must not take its memory from the workers.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    parser = argparse.ArgumentParser(prog="benchmarks/peers", description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=BY_NAME, metavar="CASE")
    parser.add_argument(
        "--accelerator", action="store_true", help="the cases for a card, into accelerator.json"
    )
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--rounds", type=int, default=15, help="turns per contestant")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    options = parser.parse_args()
    if options.list:
        print("\n".join(BY_NAME))
        return
    name = "accelerator" if options.accelerator else "peers"
    usual = ACCELERATOR_CASES if options.accelerator else (*CASES, *RACES)
    chosen = options.cases or [each.name for each in usual]
    missing = _install(options.libraries)
    libraries = [library for library in options.libraries if library not in missing]
    for case in (*CASES, *ACCELERATOR_CASES):
        if case.name in chosen:
            print(case.name, flush=True)
            begun = time.strftime("%Y-%m-%d %H:%M:%S")
            rows = training_steps(case, libraries, options.rounds)
            absent = {**skipped(case), **missing}
            report.merge(
                name, "rows", rows + _left_out(case.name, absent, options.libraries), begun
            )
    for race in RACES:
        if race.name in chosen and FATHOMX in libraries:
            print(race.name, flush=True)
            begun = time.strftime("%Y-%m-%d %H:%M:%S")
            rows = race_to_equilibrium(race, libraries)
            report.merge(
                name, "races", rows + _left_out(race.name, missing, options.libraries), begun
            )
    report.show(name)


def _install(libraries: Sequence[str]) -> dict[str, str]:
    """Makes the environments; the libraries for which that failed, with the reason."""
    failed = {}
    for library in libraries:
        try:
            python_of(library)
        except WorkerError as error:
            failed[library] = str(error)
    return failed


def _left_out(case: str, reasons: Mapping[str, str], libraries: Sequence[str]) -> list[report.Row]:
    """Rows that say why nothing of a library was measured."""
    return [
        {"case": case, "library": library, "method": report.ALL_METHODS, "reason": reason}
        for library, reason in reasons.items()
        if library in libraries
    ]


main()
