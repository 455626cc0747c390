"""A file of vectors while it is being written: OUT.partial, with how far it came in OUT.progress."""

from __future__ import annotations

import io
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic

from monograph.errors import InputError, MonographError
from monograph.vector_file.disk import sync_names, write_durably
from monograph.vector_file.formats import Block, VectorFormat
from monograph.vector_file.lock import GUARDED, open_locked
from monograph.vector_file.progress import Progress, TextsDigest, read_progress, write_progress

logger = logging.getLogger(__name__)


@contextmanager
def open_vector_file(
    output: Path, form: VectorFormat[Block], settings: Mapping[str, str], *, resume: bool
) -> Iterator[VectorFile[Block]]:
    """Open ``output`` for vectors; it takes its place once the block ends without an error.

    Until then it is named ``OUT.partial``. After an error, an interrupt or a kill the partial file stays where at
    least one block of vectors is done, with a state file ``OUT.progress``; the error gets a note that says so.

    Args:
        output: The file; one that is there already stays as it is until the new one is whole.
        form: How vectors become bytes.
        settings: What the vectors depend on beside the texts; a file that was begun with others is not resumed.
        resume: Go on with the partial file, if there is one. Without it a partial file is replaced only where no
            text in it is done.

    Raises:
        InputError: another run writes the file, or what was begun cannot be resumed with these settings, or is not to
            be resumed and would be lost.
        OSError: the file cannot be written.

    """
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file")
    partial, state = (output.with_name(f"{output.name}.{part}") for part in ("partial", "progress"))
    with open_locked(partial) as file:
        begun = _begun(partial, state)
        if begun is not None:
            _check_resumable(begun, partial, state, form, settings, resume=resume)
        elif resume:
            logger.info("nothing to resume for %s: starting from the beginning", partial)
        vectors = VectorFile(file, output, partial, state, form, settings, begun)
        try:
            vectors.start()
            yield vectors
            vectors.finish()
        except BaseException as error:
            vectors.leave(error)
            raise


class VectorFile(Generic[Block]):
    """Takes blocks of vectors in the order of their texts; ``open_vector_file`` makes it."""

    def __init__(
        self,
        file: io.FileIO,
        output: Path,
        partial: Path,
        state: Path,
        form: VectorFormat[Block],
        settings: Mapping[str, str],
        begun: Progress | None,
    ) -> None:
        self._file = file
        self._output = output
        self._partial = partial
        self._state = state
        self._form = form
        self._settings = settings
        self._done = begun
        # False until the input turned out to be that of the run that is resumed.
        self._agreed = begun is None
        self._digest = TextsDigest()
        self._awaited: deque[str] = deque()

    @property
    def texts(self) -> int:
        """Number of texts whose vectors are on the disk."""
        return 0 if self._done is None else self._done.texts

    def start(self) -> None:
        """Bring the file to the state of ``texts``: only what is known to be sound stays in it."""
        # Zeros until the end: a file that is not whole cannot be loaded.
        hollow = bytes(len(self._form.head(0)))
        if self._done is None:
            self._state.unlink(missing_ok=True)
            self._file.truncate(0)
        self._file.seek(0)
        write_durably(self._file, hollow)
        if self._done is not None:
            # Bytes beyond are a block that was cut off.
            self._file.truncate(self._done.size)
            self._file.seek(self._done.size)

    def remaining(self, texts: Iterable[str]) -> Iterator[str]:
        """Read past the texts that are done and return the others, to be embedded and appended in their order.

        Raises:
            InputError: the texts are not those that the file was begun with.

        """
        texts = iter(texts)
        found = 0
        for text in itertools.islice(texts, self.texts):
            self._digest.add(text)
            found += 1
        if self._done is not None:
            again = "give the input of that run, or remove that file to start over"
            if found < self._done.texts:
                raise InputError(
                    f"the input has {found:,} texts, but {self.texts:,} are done in {self._partial}: {again}"
                )
            if self._digest.value() != self._done.digest:
                raise InputError(f"the input's first {found:,} texts are not those of {self._partial}: {again}")
        self._agreed = True
        return self._remembered(texts)

    def append(self, vectors: Block) -> None:
        """Write the vectors of the next texts, a block of the format's; they are on the disk when this returns.

        Raises:
            OSError: they cannot be written.

        """
        write_durably(self._file, self._form.body(vectors))
        for _ in range(len(vectors)):
            self._digest.add(self._awaited.popleft())
        done = Progress(self._settings, self.texts + len(vectors), self._file.tell(), self._digest.value())
        write_progress(self._state, done)
        self._done = done

    def finish(self) -> None:
        """Write the head and put the file in its place.

        Raises:
            OSError: it cannot be written or renamed.

        """
        head = self._form.head(self.texts)
        if len(head) != len(self._form.head(0)):
            raise MonographError(f"the header of {self._partial} does not fit before its vectors: report this")
        self._file.seek(0)
        write_durably(self._file, head)
        self._let_go()
        self._partial.replace(self._output)
        sync_names(self._output.parent)
        # Last: a power cut in between leaves a whole file and a state of nothing.
        self._state.unlink(missing_ok=True)

    def leave(self, error: BaseException) -> None:
        """Keep what is done, and say so in a note to ``error``; where nothing is done, leave nothing behind."""
        # What the disk says: an interrupt may have come between a state that was written and our note of it.
        with suppress(InputError):
            self._done = read_progress(self._state)
        if self._done is None:
            self._let_go()
            self._partial.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
        elif self._partial.exists() and (self._agreed or isinstance(error, KeyboardInterrupt)):
            error.add_note(f"{self.texts:,} texts are in {self._partial}, --resume goes on from there")

    def _remembered(self, texts: Iterator[str]) -> Iterator[str]:
        for text in texts:
            self._awaited.append(text)
            yield text

    def _let_go(self) -> None:
        # Windows renames and removes no file that is open; elsewhere it stays locked until it has its new name.
        if not GUARDED:
            self._file.close()


def _begun(partial: Path, state: Path) -> Progress | None:
    """Return how far an earlier run came, None where nothing is left of one."""
    return read_progress(state) if partial.stat().st_size else None


def _check_resumable(
    done: Progress, partial: Path, state: Path, form: VectorFormat[Any], settings: Mapping[str, str], *, resume: bool
) -> None:
    """Refuse to go on with what an earlier run left where that is not wanted or cannot be right."""
    if not resume:
        raise InputError(
            f"{done.texts:,} texts of an interrupted run are in {partial}: --resume goes on from there; "
            "remove that file to start over"
        )
    names = sorted({*done.settings, *settings})
    differ = [name for name in names if done.settings.get(name) != settings.get(name)]
    if differ:
        stated = "; ".join(f"{name} was {done.settings.get(name)!r}, is {settings.get(name)!r}" for name in differ)
        raise InputError(f"{partial} was begun otherwise ({stated}): run so, or remove that file to start over")
    size = partial.stat().st_size
    if size < done.size or done.size < len(form.head(0)):
        raise InputError(
            f"{partial} has {size:,} bytes where {state} says {done.size:,}: remove {partial} to start over"
        )
