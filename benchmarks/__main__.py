"""Here lives the command: ``python -m benchmarks [p1 p2 p3 … declare tripwire] [--rounds N] [--json FILE]``."""

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.machine import describe_machine
from benchmarks.plan import PLAN, TITLES, Contest
from benchmarks.plot import draw
from benchmarks.rounds import RoundOptions, run_rounds
from benchmarks.server import URL_VARIABLE, open_server
from benchmarks.summary import summarize


def main() -> int:
    """Measure, print, keep; return 1 if a measurement failed, else 0, whatever the goals say."""
    options = _parse()
    contests = _choose(options.workloads or list(TITLES), peers=options.peers)
    patience = options.patience if options.patience is not None else (5.0 if options.quick else 60.0)
    rounds = RoundOptions(rounds=options.rounds or (1 if options.quick else 3), quick=options.quick, patience=patience)
    with open_server() as server:
        server.refuse_if_forgetful()
        taken = {**describe_machine(), **server.describe(), "quick": options.quick}
        records = run_rounds(contests, server, rounds)
    fresh = report.section_of(summarize(records), records, taken)
    print(report.table_of(fresh))
    print("\n### Compared with the last result\n")
    last = report.load(report.LATEST)
    print(report.compare(last, fresh) if last else "there is none")
    _keep(options, last, fresh)
    return int(any(record.get("error") for record in records))


def _keep(options: argparse.Namespace, last: dict, fresh: dict) -> None:
    if options.json:
        report.write(options.json, fresh)
        draw(fresh, options.json.with_suffix(".png"))
    if options.save:
        merged = report.merge(last, fresh)
        report.write(report.LATEST, merged)
        report.write_readme(merged)
        if not draw(merged, report.LATEST.with_suffix(".png")):
            print("No picture: matplotlib is not installed.", file=sys.stderr)
    if not options.json and not options.save:
        print("\nNot kept: --json FILE writes a file, --save replaces benchmarks/results/latest.json.")


def _choose(workloads: list[str], *, peers: bool) -> list[Contest]:
    chosen = []
    for contest in PLAN:
        if contest.workload not in workloads or (contest.is_peer and not peers):
            continue
        missing = contest.missing()
        if missing:
            print(f"{contest.workload} without {contest.name}: {', '.join(missing)} not installed", file=sys.stderr)
        else:
            chosen.append(contest)
    return chosen


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Continuum and its peers side by side.",
        epilog=f"{URL_VARIABLE} names a server to use, on which databases may be created; without it a Postgres with"
        " default settings is started for the occasion. Peers need: pip install -e '.[bench]'.",
    )
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"any of {', '.join(TITLES)}; default all")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured (3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not how fast it is")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="only Continuum")
    parser.add_argument("--patience", type=float, help="longest wait for a quiet machine before each one (60 s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures (and FILE.png)")
    parser.add_argument("--save", action="store_true", help="make this the last result, in benchmarks/results")
    options = parser.parse_args()
    options.workloads = [name.lower() for name in options.workloads]
    unknown = [name for name in options.workloads if name not in TITLES]
    if unknown:
        parser.error(f"unknown workload {', '.join(unknown)}: choose from {', '.join(TITLES)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.save and options.quick:
        parser.error("--save is for full runs, not for --quick ones")
    return options


if __name__ == "__main__":
    sys.exit(main())
