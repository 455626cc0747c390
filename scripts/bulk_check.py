"""Embed 2,000,000 rows of 40 Parquet files, killed 20 times at random, and check every row: `scripts/bulk-check`.

The rows are lines of MONOGRAPH_DATA's corpora and combinations of two of them. A run that nothing interrupts is
compared with `Embedder.encode`, joined on id; then the same command is killed with SIGKILL at random moments and
started again, until it has been killed as often as wanted and has come to its end. Its files must have the same bytes.
What was computed again is at most the tables that had been begun and were not complete at a kill, by what is left of
them in the folder: these may be no more than one for each process, and their rows are counted. The memory of all
processes is sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from monograph import Embedder

MEGABYTE = 1 << 20


def corpus(data: Path) -> list[str]:
    """Return the different lines of the corpora."""
    lines: dict[str, None] = {}
    for file in sorted((data / "tatoeba-laser").glob("tatoeba.*")):
        lines.update(dict.fromkeys(file.read_text("utf-8").splitlines()))
    for file in sorted((data / "sts17").rglob("STS.input.*.txt")):
        lines.update(dict.fromkeys(part for line in file.read_text("utf-8").splitlines() for part in line.split("\t")))
    lines.update(dict.fromkeys((data / "cranfield" / "cran.all.1400").read_text("utf-8").splitlines()))
    return [line for line in lines if line.strip()]


def rows(lines: list[str]) -> Iterator[str]:
    """Yield the lines, then two of them at a time; an empty text and repetitions are among them."""
    yield from lines
    generator = random.Random(1)  # noqa: S311
    while True:
        draw = generator.random()
        if draw < 0.001:
            yield ""
        elif draw < 0.05:
            yield generator.choice(lines)
        else:
            yield f"{generator.choice(lines)} {generator.choice(lines)}"


def write_inputs(folder: Path, data: Path, count: int, files: int) -> None:
    """Write the tables, each with row groups of 10,000 rows."""
    texts = rows(corpus(data))
    folder.mkdir(parents=True)
    for number in range(files):
        first, last = count * number // files, count * (number + 1) // files
        table = pa.table(
            {
                "id": pa.array(range(first, last), pa.int64()),
                "text": list(islice(texts, last - first)),
                "part": pa.array([f"part {place % 7}" for place in range(first, last)]),
            }
        )
        pyarrow.parquet.write_table(table, folder / f"{number:03}.parquet", row_group_size=10_000)


def memory(root: int) -> tuple[int, int]:
    """Return the anonymous memory of a process and its descendants, and the proportional set size, in bytes."""
    anonymous = proportional = 0
    for process in family(root):
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                words = line.split()
                anonymous += int(words[1]) * 1024 if words[0] == "Pss_Anon:" else 0
                proportional += int(words[1]) * 1024 if words[0] == "Pss:" else 0
        except OSError:
            continue
    return anonymous, proportional


def family(root: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            children.setdefault(int(parent), []).append(int(folder.name))
    rest = [root]
    while rest:
        yield rest[-1]
        rest += children.get(rest.pop(), [])


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def run_whole(command: list[str]) -> dict[str, Any]:
    """Run the command to its end, and return its seconds and its memory in quarters of the time."""
    begin = time.monotonic()
    samples: list[tuple[float, int, int]] = []
    with start(command) as process:
        while process.poll() is None:
            samples.append((time.monotonic() - begin, *memory(process.pid)))
            time.sleep(0.5)
        expect(process.returncode == 0, f"the run ended with exit code {process.returncode}")
    seconds = time.monotonic() - begin
    quarters = []
    for quarter in range(4):
        own = [s for s in samples if quarter / 4 <= s[0] / seconds < (quarter + 1) / 4]
        quarters.append(
            {
                "anonymous_mb": round(max(s[1] for s in own) / MEGABYTE),
                "proportional_mb": round(max(s[2] for s in own) / MEGABYTE),
            }
        )
    return {"seconds": round(seconds, 1), "peak_memory_by_quarter": quarters}


def check_rows(inputs: Path, output: Path, bundle: Path) -> dict[str, Any]:
    """Join every output with its input on id, and compare the vectors with those of ``encode``."""
    worst, count = 0.0, 0
    seen = np.zeros(0, np.int64)
    with Embedder(bundle, device="cpu") as model:
        for source in sorted(inputs.iterdir()):
            texts = pyarrow.parquet.read_table(source)
            vectors = pyarrow.parquet.read_table(output / source.name)
            joined = texts.join(vectors.select(["id"]).append_column("place", pa.array(range(len(vectors)))), "id")
            joined = joined.sort_by("id")
            expect(len(joined) == len(texts) == len(vectors), f"{source.name} lost or doubled a row")
            expect(joined["place"].null_count == 0, f"{source.name} lost a row")
            flat = vectors["embedding"].combine_chunks().flatten().to_numpy()
            actual = flat.reshape(len(vectors), -1)[joined["place"].to_numpy()]
            expected = model.encode(joined["text"].to_pylist())
            worst = max(worst, float(np.abs(actual - expected).max()))
            count += len(joined)
            seen = np.concatenate([seen, joined["id"].to_numpy()])
    expect(len(np.unique(seen)) == count, "an id occurs twice")
    return {"rows_compared": count, "worst_difference": worst}


def kill_and_resume(
    command: list[str], output: Path, rows_of: dict[str, int], options: argparse.Namespace, table_seconds: float
) -> dict[str, Any]:
    """Kill the command at random moments, then let it come to its end; return what it computed more than once."""
    generator = random.Random(options.seed)  # noqa: S311
    counts: list[int] = []
    repeated: list[int] = []
    finished: dict[str, int] = {}
    seen: set[str] = set()
    for number in range(options.kills):
        # After none, one or two more tables, and then at any moment of the next.
        wanted = len(finished) + generator.choice((0, 1, 1, 2))
        with start(command) as process:
            while len(list(output.glob("*.parquet"))) < wanted and process.poll() is None:
                time.sleep(0.05)
            time.sleep(generator.uniform(0, table_seconds))
            expect(process.poll() is None, f"the run ended before kill {number + 1}: choose more --rows and --files")
            processes = list(family(process.pid))
            process.kill()
        wait_for_end(processes)
        finished = still_there(output, finished)
        counts.append(len(finished))
        begun = {path.name for path in output.glob(".*.parquet.partial-*")} - seen
        seen |= begun
        tables = [name[1:].partition(".partial-")[0] for name in begun]
        expect(len(tables) <= options.workers, f"{len(tables)} tables were begun at kill {number + 1}")
        # One that was written just before the kill is complete, and only its staging folder is left.
        repeated.append(sum(rows_of[name] for name in tables if name not in finished))
    message = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    still_there(output, finished)
    return {
        "kills": options.kills,
        "tables_done_at_each_kill": counts,
        "rows_of_tables_begun_at_each_kill": repeated,
        "rows_repeated_at_most": sum(repeated),
        "last_run": message,
    }


def still_there(output: Path, finished: dict[str, int]) -> dict[str, int]:
    """Return the complete tables and when they were written, among which are those that were complete before."""
    now = {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
    expect({**now, **finished} == now, "a table that was finished was written again")
    return now


def wait_for_end(processes: list[int]) -> None:
    """Wait until the processes of a killed command have noticed it and ended."""
    end = time.monotonic() + 60
    while any(Path(f"/proc/{process}").exists() for process in processes):
        expect(time.monotonic() < end, "workers outlive the command")
        time.sleep(0.02)


def expect(holds: bool, problem: str) -> None:
    """End the check with what is wrong."""
    if not holds:
        raise SystemExit(f"scripts/bulk-check: {problem}")


def same_bytes(first: Path, second: Path) -> bool:
    """Return whether two folders have the same files."""
    names = sorted(path.name for path in first.iterdir())
    if names != sorted(path.name for path in second.iterdir()):
        return False
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def main() -> int:
    """Run the check and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="scripts/bulk-check", description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder for tables and vectors: 1 GB for 2,000,000 rows")
    parser.add_argument("--bundle", type=Path, default=Path("tests/data/embedding"))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MONOGRAPH_DATA", "../shared/data")))
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--table-seconds", type=float, default=30.0, help="of a worker, where FOLDER/whole is there from a run before"
    )
    arguments = parser.parse_args()
    inputs, whole, killed = (arguments.folder / name for name in ("in", "whole", "killed"))
    if not inputs.exists():
        write_inputs(inputs, arguments.data, arguments.rows, arguments.files)
    command = [sys.executable, "-m", "monograph", "embed", str(arguments.bundle), str(inputs), "--keep", "id,part"]
    command += ["--device", "cpu", "--workers", str(arguments.workers), "--threads", str(arguments.threads)]
    shutil.rmtree(killed, ignore_errors=True)
    figures: dict[str, Any] = {"rows": arguments.rows, "files": arguments.files, "workers": arguments.workers}
    if not whole.exists():
        figures |= run_whole([*command, "-o", str(whole)])
        print(json.dumps(figures), flush=True)
        figures |= check_rows(inputs, whole, arguments.bundle)
        print(json.dumps(figures), flush=True)
    seconds = figures.get("seconds", 0) / arguments.files * arguments.workers
    rows_of = {path.name: pyarrow.parquet.read_metadata(path).num_rows for path in inputs.iterdir()}
    figures |= kill_and_resume(
        [*command, "-o", str(killed)], killed, rows_of, arguments, seconds or arguments.table_seconds
    )
    figures["same_bytes"] = same_bytes(whole, killed)
    figures["left_over"] = [path.name for path in killed.iterdir() if path.suffix != ".parquet"]
    print(json.dumps(figures, indent=1))
    return 0 if figures["same_bytes"] and not figures["left_over"] else 1


if __name__ == "__main__":
    sys.exit(main())
