"""Verify a bundle in another process, which a fault of an engine may end without taking the caller with it.

The process is a new Python interpreter: it gets its request on standard input, prints a line of JSON for each compute
dtype, and if wanted for each event of its progress, and ends by itself when its time is up, also where nobody waits for
it any more.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import spawn
from pathlib import Path
from typing import Self, cast

from monograph.bundle import Bundle, read_probes
from monograph.engines import EngineOptions, dtypes_for, dtypes_of, register_engine
from monograph.engines.registry import engine_for
from monograph.errors import BundleError, DeviceError, MonographError
from monograph.fields import Fields
from monograph.inference.progress_events import Events, Replay, is_event
from monograph.inference.routes import Tokenizers, load_routes, load_tokenizers
from monograph.inference.verification import ProofError, quick_failure, verify, wrong_on_probes
from monograph.progress import SILENT, Progress
from monograph.quality import VerificationResult
from monograph.tasks import register_task
from monograph.tasks.base import FLOAT32_TOLERANCE

# The caller's packages are imported from where the caller has them.
_BOOTSTRAP = (
    f"import json, sys; sys.path[:], device = json.loads(sys.argv[1]); from {__name__} import main; main(device)"
)
# For a graph and a few probes, beside the start of Python and the import of the engine. Not measured at LaBSE's size.
_SECONDS = 8
_BYTES_PER_SECOND = 20_000_000
# All probes in every way of batching take longer by so much at most.
_WHOLE = 60
_SECONDS_TO_START = 60
# How often the progress of the process is looked at.
_POLL_SECONDS = 0.1
# What faulthandler begins with as it ends the process.
_TIMED_OUT = "Timeout ("
# Each type that the device runs the bundle in.
ALL = "all"
_INTERPRETERS = ("python", "pypy", "graalpy")


@dataclass(frozen=True)
class Request:
    """What to verify: a bundle on a device, in one type or, for "all", in each that the device runs it in.

    ``tolerance`` is that of ``verify``; None is for a few probes only. ``check_verifications`` refuses what failed
    verification when it was exported. ``reports`` has the process report its progress.
    """

    bundle: Bundle
    options: EngineOptions
    tolerance: float | None = None
    check_verifications: bool = True
    reports: bool = False

    @property
    def seconds(self) -> float:
        """How long it may take."""
        few = _SECONDS + self.bundle.size_bytes / _BYTES_PER_SECOND
        return few if self.tolerance is None else few * _WHOLE


@dataclass(frozen=True)
class Response:
    """What came of a request in one compute dtype, "" where none could be found out.

    ``failure`` is what is wrong with a few probes, "" for nothing; ``result`` is that of all probes. ``problems`` say
    why there is neither, as a ``BundleError`` or, where ``of_device``, as a ``DeviceError``; ``ended`` is of a process
    that gave no answer.
    """

    compute_dtype: str
    failure: str = ""
    result: VerificationResult | None = None
    problems: tuple[str, ...] = ()
    of_device: bool = False
    ended: bool = False

    @classmethod
    def of_error(cls, compute_dtype: str, error: MonographError) -> Response:
        """Return the response that an error is."""
        if isinstance(error, BundleError):
            return cls(compute_dtype, problems=error.problems)
        return cls(
            compute_dtype, problems=(str(error),), of_device=True, ended=isinstance(error, ProofError) and error.ended
        )

    def check(self, bundle: Bundle) -> Self:
        """Return the response unless it is an error, which is raised."""
        if self.problems:
            if self.of_device:
                message = "; ".join(self.problems)
                raise ProofError(message, ended=True) if self.ended else DeviceError(message)
            raise BundleError(bundle.path, self.problems)
        return self


class VerifierProcess:
    """A process that verifies a bundle on a device; it imports the engine before it gets a request.

    As a context it ends the process on the way out, whether it has verified or not.

    Raises:
        DeviceError: no process can be started.

    """

    def __init__(self, device: str) -> None:
        self.device = device
        # -P: what lies in the current folder is no package of ours. A new session: Ctrl-C is for the caller, who ends
        # this process.
        interpreter = _find_interpreter()
        given = json.dumps([[entry for entry in sys.path if isinstance(entry, str)], device])
        command = [interpreter, "-I" if sys.flags.isolated else "-P", "-c", _BOOTSTRAP, given]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise DeviceError(
                f"a bundle is verified in a process of its own, and {interpreter} cannot be started "
                f"({error.strerror}): choose another device, or make room for a process"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def verify(self, request: Request, progress: Progress = SILENT) -> list[Response]:
        """Verify a bundle, once; the last response is an error where the process ended before it was done.

        What the process does is reported to ``progress``.
        """
        bundle, seconds = request.bundle, request.seconds
        request = replace(request, reports=progress is not SILENT)
        # What another package has registered is unknown to a new process.
        content = pickle.dumps((engine_for(self.device), bundle.task, seconds)) + pickle.dumps(request)
        too_slow = f"it took longer than {seconds:.0f} seconds"
        responses: list[Response] = []
        with closing(Replay(progress)) as replay:
            try:
                output, errors = self._communicate(content, seconds + _SECONDS_TO_START, replay)
                problem = self._problem(errors.decode(errors="replace"), too_slow)
            except subprocess.TimeoutExpired:
                output, problem = b"", too_slow
        try:
            values = [json.loads(line) for line in output.splitlines()]
            responses = [Fields(value, "", []).read(Response) for value in values if not is_event(value)]
        except ValueError:
            problem = problem or "what it answered is no JSON"
        if problem or not responses:
            # Nobody should export a bundle again because other processes took the CPUs.
            busy = "the machine may be busy, so try again, or " if problem == too_slow else ""
            error = ProofError(
                f"device {self.device!r} failed on bundle {bundle.path} in a process of its own "
                f"({problem or 'it gave no answer'}): {busy}the bundle may be damaged; choose another device",
                ended=True,
            )
            responses.append(Response.of_error("", error))
        return responses

    def _communicate(self, content: bytes, seconds: float, replay: Replay) -> tuple[bytes, bytes]:
        """Give the process its input, replay its progress as it comes, and return all that it has written.

        Raises:
            TimeoutExpired: it takes longer.

        """
        end = time.monotonic() + seconds
        given: bytes | None = content
        while True:
            try:
                output, errors = self._process.communicate(
                    given, timeout=min(_POLL_SECONDS, max(0, end - time.monotonic()))
                )
            except subprocess.TimeoutExpired as error:
                # All that it has written so far; none of it is lost to the next call.
                replay.read(error.output or b"")
                if time.monotonic() >= end:
                    raise
                given = None
            else:
                replay.read(output)
                return output, errors

    def _problem(self, errors: str, too_slow: str) -> str:
        """Return how the process failed, "" where it did not."""
        status = self._process.returncode
        if status < 0:
            return f"it was ended by {_signal_name(-status)}"
        if status and _TIMED_OUT in errors:
            return too_slow
        last = (errors.strip().splitlines() or ["no message"])[-1]
        return f"it ended with exit status {status}: {last}" if status else ""


def prove(bundle: Bundle, options: EngineOptions) -> str:
    """Compute a few probes of a bundle in another process, and return the compute dtype that was taken.

    Raises:
        BundleError: the engine cannot load the graph.
        DeviceError: the device cannot run the bundle here: it is refused, wrong on the probes, or ends the process.

    """
    response = _verify_one(Request(bundle, options))
    if response.failure:
        raise ProofError(wrong_on_probes(options.device, response.compute_dtype, response.failure))
    return response.compute_dtype


def verify_in_subprocess(
    bundle: Bundle, options: EngineOptions, *, check_verifications: bool = True, progress: Progress = SILENT
) -> VerificationResult:
    """Verify a bundle in one compute dtype in another process, whose steps are reported to ``progress``.

    Raises:
        MonographError: the device cannot run the bundle, or ends the process.

    """
    request = Request(bundle, options, FLOAT32_TOLERANCE, check_verifications)
    return cast(VerificationResult, _verify_one(request, progress).result)


def main(device: str) -> None:
    """Read a request from standard input, and print a response for each compute dtype."""
    # Engines print what they like.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _leave_no_core_file()
    # The engine is imported before there is anything to read. What fails here fails again below, and is reported then.
    with suppress(MonographError):
        dtypes_of(device)
    content = io.BytesIO(sys.stdin.buffer.read())
    if not content.getbuffer():
        return
    entry, task, seconds = pickle.load(content)  # noqa: S301 - the caller's own
    register_engine(entry)
    register_task(task)
    request: Request = pickle.load(content)  # noqa: S301
    # Whoever waits has a limit of their own; this one is for a process that nobody waits for any more.
    faulthandler.dump_traceback_later(seconds, exit=True)
    for response in _respond(request, Events(output) if request.reports else SILENT):
        print(json.dumps(asdict(response)), file=output, flush=True)


def _verify_one(request: Request, progress: Progress = SILENT) -> Response:
    """Return the response of another process in one compute dtype; raise the error that it is."""
    with VerifierProcess(request.options.device) as process:
        return process.verify(request, progress)[-1].check(request.bundle)


def _respond(request: Request, progress: Progress) -> Iterator[Response]:
    bundle, options = request.bundle, request.options
    try:
        dtypes = dtypes_for(bundle, options.device) if options.compute_dtype == ALL else (options.compute_dtype,)
        tokenizers = load_tokenizers(bundle)
    except MonographError as error:
        yield Response.of_error("", error)
        return
    for dtype in dtypes:
        try:
            yield _verify(request, tokenizers, dtype, progress)
        except MonographError as error:
            yield Response.of_error(dtype, error)


def _verify(request: Request, tokenizers: Tokenizers, compute_dtype: str, progress: Progress) -> Response:
    options = replace(request.options, compute_dtype=compute_dtype)
    with progress.step(f"Loading on {options.device} at {compute_dtype}"):
        routes = load_routes(request.bundle, tokenizers, options, check_verifications=request.check_verifications)
    with closing(routes):
        compute_dtype = routes.main.engine.compute_dtype
        if request.tolerance is None:
            return Response(compute_dtype, failure=quick_failure(routes))
        bundle = request.bundle
        sets = read_probes(bundle.path, bundle.manifest.output_width, bundle.probes_file)
        return Response(compute_dtype, result=verify(routes, sets, request.tolerance, progress))


def _find_interpreter() -> str:
    """Return the Python that processes are started with, that of multiprocessing.

    Raises:
        DeviceError: there is none, or it may be another program, in which Python is embedded.

    """
    interpreter = os.fsdecode(spawn.get_executable() or "")
    chosen = interpreter != sys.executable
    named = Path(interpreter).name.lower().startswith(_INTERPRETERS) and not getattr(sys, "frozen", False)
    if interpreter and (chosen or named):
        return interpreter
    raise DeviceError(
        f"a bundle is verified in a process of its own, and {interpreter or 'nothing'!r} is no Python interpreter to "
        "start one with: name one with multiprocessing.set_executable, or choose the device 'cpu'"
    )


def _leave_no_core_file() -> None:
    # Not on Windows.
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
