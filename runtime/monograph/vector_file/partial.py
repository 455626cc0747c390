"""A file of vectors while it is being written: OUT.partial, with its progress in OUT.progress."""

from __future__ import annotations

import io
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic

from monograph.atomic import find_full_disk
from monograph.errors import InputError, MonographError
from monograph.vector_file.disk import HAS_LOCKS, open_locked, remove_replaceable, sync_folder, write_durably
from monograph.vector_file.formats import Block, VectorFormat
from monograph.vector_file.progress import Progress, TextsDigest, read_progress, write_progress
from monograph.vector_file.settings import describe_changes

logger = logging.getLogger(__name__)


@contextmanager
def open_vector_file(
    output: Path, vector_format: VectorFormat[Block], settings: Mapping[str, str], *, resume: bool
) -> Iterator[VectorFile[Block]]:
    """Open ``output`` for vectors; an existing file is replaced once the block ends without an error.

    Until then the new one is named ``OUT.partial``. After an error, an interrupt or a kill it stays where it has at
    least one block of vectors, with a state file ``OUT.progress``; a note of the error says so.

    Args:
        output: The file.
        vector_format: How vectors become bytes.
        settings: What the vectors depend on beside the texts; a partial file with others is not resumed.
        resume: Continue the partial file, if there is one. Without it a partial file is replaced only where it has no
            vectors.

    Raises:
        InputError: another run writes the file, or the partial file cannot be resumed with these settings, or would be
            lost.
        MonographError: the disk is full.
        OSError: the file cannot be written for another reason.

    """
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file")
    partial = _partial_path(output)
    try:
        with open_locked(partial) as file:
            vectors = VectorFile(file, output, vector_format, settings, resume=resume)
            try:
                vectors.start()
                yield vectors
                vectors.finish()
            except BaseException as error:
                vectors.abandon(error)
                raise
    except KeyboardInterrupt:
        # It may have come as the file was made, before there was anything to abandon.
        _remove_if_empty(partial)
        raise
    except OSError as error:
        if not (problem := find_full_disk(error, partial)):
            raise
        full = MonographError(problem)
        for note in getattr(error, "__notes__", ()):
            full.add_note(note)
        raise full from error


class VectorFile(Generic[Block]):
    """Takes blocks of vectors in the order of their texts; ``open_vector_file`` makes it of an open partial file."""

    def __init__(
        self,
        file: io.FileIO,
        output: Path,
        vector_format: VectorFormat[Block],
        settings: Mapping[str, str],
        *,
        resume: bool,
    ) -> None:
        self._file = file
        self._output = output
        self._partial = _partial_path(output)
        self._state = output.with_name(f"{output.name}.progress")
        self._format = vector_format
        self._settings = settings
        self._digest = TextsDigest()
        self._pending: deque[str] = deque()
        self._progress = read_progress(self._state) if self._partial.stat().st_size else None
        # Whether the input is known to be that of the resumed run.
        self._input_matches = self._progress is None
        if self._progress is not None:
            self._check_resumable(self._progress, resume=resume)
        elif resume and output.exists():
            # Not an error: whether it is of this input and these settings, nothing says.
            logger.warning(
                "nothing to resume for %s, which is complete: all texts are embedded again, and replace it at the end",
                output,
            )
        elif resume:
            logger.info("nothing to resume for %s: starting from the beginning", self._partial)

    @property
    def texts(self) -> int:
        """Number of texts whose vectors are on disk."""
        return 0 if self._progress is None else self._progress.texts

    def start(self) -> None:
        """Truncate the file to the vectors that are complete."""
        if self._progress is None:
            remove_replaceable(self._state)
            self._file.truncate(0)
        self._file.seek(0)
        # Zeros in place of the header: an incomplete file cannot be loaded.
        write_durably(self._file, bytes(len(self._format.header(0))))
        if self._progress is not None:
            # Bytes beyond belong to an interrupted block.
            self._file.truncate(self._progress.size)
            self._file.seek(self._progress.size)

    def remaining(self, texts: Iterable[str]) -> Iterator[str]:
        """Skip the texts that are done and return the others, to be embedded and appended in order.

        Raises:
            InputError: the texts are not those of the resumed run.

        """
        texts = iter(texts)
        for text in itertools.islice(texts, self.texts):
            self._digest.add(text)
        if self._progress is not None:
            count = self._digest.texts
            advice = "give the input of that run, or remove that file to start over"
            if count < self.texts:
                raise InputError(
                    f"the input has {count:,} texts, but {self.texts:,} are done in {self._partial}: {advice}"
                )
            if self._digest.value() != self._progress.digest:
                raise InputError(f"the input's first {count:,} texts are not those of {self._partial}: {advice}")
        self._input_matches = True
        return self._record(texts)

    def append(self, vectors: Block) -> None:
        """Write the vectors of the next texts; they are on disk when this returns."""
        write_durably(self._file, self._format.body(vectors))
        for _ in range(len(vectors)):
            self._digest.add(self._pending.popleft())
        progress = Progress(self._settings, self.texts + len(vectors), self._file.tell(), self._digest.value())
        write_progress(self._state, progress)
        self._progress = progress

    def finish(self) -> None:
        """Write the header and rename the file; raise ``OSError`` if it cannot be written or renamed."""
        header = self._format.header(self.texts)
        if len(header) != len(self._format.header(0)):
            raise MonographError(f"the header of {self._partial} does not fit before its vectors: report this")
        self._file.seek(0)
        write_durably(self._file, header)
        self._close_on_windows()
        self._partial.replace(self._output)
        sync_folder(self._output.parent)
        # Last: a power cut in between leaves a complete file and an obsolete state.
        remove_replaceable(self._state)

    def abandon(self, error: BaseException) -> None:
        """Leave the vectors that are done and add a note to ``error``; remove the files where there are none."""
        # As the disk has it: an interrupt may have come between writing the state and recording it here.
        with suppress(InputError):
            self._progress = read_progress(self._state)
        if self._progress is None:
            self._close_on_windows()
            self._partial.unlink(missing_ok=True)
            remove_replaceable(self._state)
            if isinstance(error, KeyboardInterrupt):
                error.add_note("no vectors were saved yet: repeat the command to start again")
        elif self._partial.exists() and (self._input_matches or isinstance(error, KeyboardInterrupt)):
            error.add_note(f"{self.texts:,} texts are in {self._partial}, --resume continues from there")

    def _record(self, texts: Iterator[str]) -> Iterator[str]:
        for text in texts:
            self._pending.append(text)
            yield text

    def _close_on_windows(self) -> None:
        # Windows cannot rename or remove an open file; elsewhere it stays locked until it is renamed.
        if not HAS_LOCKS:
            self._file.close()

    def _check_resumable(self, progress: Progress, *, resume: bool) -> None:
        if not resume:
            raise InputError(
                f"{progress.texts:,} texts of an interrupted run are in {self._partial}: --resume continues from "
                "there; remove that file to start over"
            )
        if changes := describe_changes(progress.settings, self._settings):
            raise InputError(
                f"{self._partial} was started with other settings ({changes}): use those, or remove that file to start "
                "over"
            )
        size = self._partial.stat().st_size
        if size < progress.size or progress.size < len(self._format.header(0)):
            raise InputError(
                f"{self._partial} has {size:,} bytes where {self._state} says {progress.size:,}: remove "
                f"{self._partial} to start over"
            )


def _remove_if_empty(partial: Path) -> None:
    """Remove a file without a single byte, unless another run has it."""
    if not partial.exists():
        return
    with suppress(InputError), open_locked(partial) as file:
        if partial.stat().st_size == 0:
            if not HAS_LOCKS:
                file.close()
            partial.unlink()


def _partial_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")
