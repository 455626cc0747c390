"""Run the stages one after the other, each in its own process: a crash or a poisoned GPU context ends one stage."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path

from gpu_check.record import Record, read_record
from gpu_check.report import print_stage, write_summary
from gpu_check.settings import DEFAULTS, Settings
from gpu_check.stages import STAGES, StageEntry

# Behind its time a stage gets as long again and half a minute, for imports and exports, before it is killed; on a CPU,
# where nothing is measured, ten times as long.
_GRACE_SECONDS = 30
_PATIENCE = {"cuda": 2, "cpu": 10}
_SETTINGS = "settings.json"


def main() -> int:
    """Run all stages, or the one that ``--stage`` names."""
    options = parse_arguments()
    if options.stage:
        return run_stage(options.stage, options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="monograph-gpu-") as folder:
        settings = make_settings(options, options.work or Path(folder))
        settings.folder.mkdir(parents=True, exist_ok=True)
        settings.write(options.output / _SETTINGS)
        complete = run_stages(options, settings)
    print(write_summary(options.output))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"written to {options.output}; the stages took {used.ru_utime + used.ru_stime:.0f} s of CPU time")
    return 0 if complete else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check", description=sys.modules["gpu_check"].__doc__)
    parser.add_argument(
        "checkpoint", nargs="?", default="", help="a checkpoint's folder; default: one of MiniLM's shape, from a seed"
    )
    parser.add_argument("--device", default="cuda", help="default: cuda; cpu shows that the script works")
    parser.add_argument("--seconds", type=float, default=540, help="stages that would start later are skipped")
    parser.add_argument("--stages", default="", help="comma-separated names; default: all")
    parser.add_argument("--shapes", choices=("full", "small"), help="default: full on a GPU, small on a CPU")
    parser.add_argument("--texts", type=int, help="number of texts of 16 tokens in one call")
    parser.add_argument("--rounds", type=int, help="interleaved rounds of all systems, at most")
    parser.add_argument("--growth", type=int, help="number of texts over which memory is watched")
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), help="folder; default: gpu-check")
    parser.add_argument("--archive", type=Path, help="also write the output folder as this .tar.gz, behind each stage")
    parser.add_argument("--work", type=Path, help="folder that keeps checkpoints and bundles; default: a temporary one")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(filter(None, options.stages.split(","))) - {entry.name for entry in STAGES}
    if unknown:
        names = ", ".join(entry.name for entry in STAGES)
        parser.error(f"there is no stage {', '.join(sorted(unknown))}: choose from {names}")
    if options.device.partition(":")[0] not in DEFAULTS:
        parser.error(f"device {options.device!r} is not one of this script: choose cuda, cuda:N or cpu")
    return options


def make_settings(options: argparse.Namespace, work: Path) -> Settings:
    shapes, texts, rounds, growth = DEFAULTS[options.device.partition(":")[0]]
    return Settings(
        device=options.device,
        work=str(work.absolute()),
        output=str(options.output.absolute()),
        checkpoint=options.checkpoint and str(Path(options.checkpoint).absolute()),
        shapes=options.shapes or shapes,
        texts=options.texts or texts,
        rounds=options.rounds or rounds,
        growth=options.growth or growth,
    )


def run_stages(options: argparse.Namespace, settings: Settings) -> bool:
    """Run the selected stages; return whether none failed and none was skipped for lack of time."""
    selected = set(filter(None, options.stages.split(",")))
    end = time.monotonic() + options.seconds
    complete = True
    for entry in STAGES:
        if selected and entry.name not in selected:
            continue
        file = options.output / f"{entry.name}.json"
        left = end - time.monotonic()
        if entry.needs_gpu and not settings.on_gpu:
            Record(file, 0).end("not on cpu")
        elif left < entry.seconds / 2:
            Record(file, 0).end("skipped", reason=f"{max(0, left):.0f} s of --seconds were left")
        else:
            start_stage(entry, settings, left)
        values = read_record(file)
        print_stage(entry.name, values)
        if options.archive:
            write_archive(options.output, options.archive)
        complete = complete and values["status"] in ("done", "not on cpu")
        if entry.required and values["status"] != "done":
            print(f"the run ends here: nothing works without the stage {entry.name}", flush=True)
            return False
    return complete


def write_archive(folder: Path, file: Path) -> None:
    """Pack the results so far; where few files come back from a machine, this is one, and whole at any moment."""
    write_summary(folder)
    partial = file.with_name(f".{file.name}.partial")
    with tarfile.open(partial, "w:gz") as archive:
        archive.add(folder, folder.name)
    partial.replace(file)


def start_stage(entry: StageEntry, settings: Settings, left: float) -> None:
    """Run a stage in a process of its own, whose output goes to NAME.log."""
    output = Path(settings.output)
    file = output / f"{entry.name}.json"
    Record(file, 0)
    seconds = min(_PATIENCE["cuda" if settings.on_gpu else "cpu"] * entry.seconds + _GRACE_SECONDS, left)
    command = [sys.executable, "-m", "gpu_check", "--stage", entry.name, "--output", str(output)]
    begin = time.monotonic()
    with (output / f"{entry.name}.log").open("wb") as log:
        # A session of its own: what a stage starts is killed with it.
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
            ended = f"its process ended with code {code}, see {entry.name}.log"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"it was killed after {seconds:.0f} s"
    values = read_record(file)
    if values.get("status") == "running":
        record = Record(file, 0)
        record.end(**values | {"status": "failed", "error": ended})
        record.put(seconds=round(time.monotonic() - begin, 1))


def run_stage(name: str, output: Path) -> int:
    """Run one stage in this process and record how it ended."""
    [entry] = (entry for entry in STAGES if entry.name == name)
    record = Record(output / f"{name}.json", entry.seconds)
    try:
        entry.load()(Settings.read(output / _SETTINGS), record)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this stage's result
        record.end("failed", error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        return 1
    record.end("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
