"""The command line of `scripts/fuzz`: run cases, save what fails, print one summary as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from fuzzing.campaign import Campaign
from fuzzing.kinds import KINDS

_DEFAULT_MINUTES = 5.0


def main() -> int:
    """Return 1 if a case failed."""
    arguments = _parse()
    kinds = arguments.kind or list(KINDS)
    seconds = None if arguments.cases else 60 * (arguments.minutes or _DEFAULT_MINUTES) / len(kinds)
    failed = False
    summaries = []
    for kind in kinds:
        campaign = Campaign(kind, arguments.device, arguments.seed, arguments.output)
        deadline = None if seconds is None else time.monotonic() + seconds
        summaries.append(campaign.run(arguments.first, arguments.cases, deadline, arguments.jobs))
        failed = failed or bool(campaign.failures)
    print(json.dumps({"passed": not failed, "seed": arguments.seed, "device": arguments.device, "kinds": summaries}))
    return int(failed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, help=f"for all kinds together; default: {_DEFAULT_MINUTES:g}")
    limit.add_argument("--cases", type=int, help="of each kind")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first case; default: 0")
    parser.add_argument("--device", default="cpu", choices=("cpu", "openvino"))
    parser.add_argument("--jobs", type=int, default=1, help="processes that run cases at the same time; default: 1")
    parser.add_argument(
        "--output", type=Path, default=Path("build/fuzz"), help="folder for cases that fail; default: build/fuzz"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
