"""Sessions with inputs and outputs bound to buffers on the device that are used again, filled from pinned memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_check.sessions import _DTYPES, Batch, as_types, open_plain
from gpu_check.settings import Settings
from monograph.engines.onnxruntime import import_onnxruntime

_TORCH_DTYPES = {np.int64: torch.int64, np.int32: torch.int32}


@dataclass
class _Slot:
    """Buffers of one batch, on the host and on the device, and the event behind its last copy."""

    host: dict[str, torch.Tensor]
    device: dict[str, torch.Tensor]
    host_output: torch.Tensor
    device_output: torch.Tensor
    event: Any
    shape: tuple[int, int] = (0, 0)


class Bound:
    """A session with bound buffers, on a stream of its own.

    With two ``slots`` a batch is copied while the one before it is computed: the host waits for a batch only when its
    buffers are needed again. The buffers hold ``max_tokens`` ids and ``max_rows`` vectors.
    """

    def __init__(
        self,
        settings: Settings,
        file: Path,
        dimension: int,
        max_tokens: int,
        max_rows: int,
        slots: int = 1,
        sizes: dict[str, int] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._on_gpu = settings.on_gpu
        self._place = torch.device(settings.device)
        self._stream = torch.cuda.Stream(self._place) if self._on_gpu else None
        stream = {} if self._stream is None else {"user_compute_stream": str(self._stream.cuda_stream)}
        self._session = open_plain(settings, file, sizes=sizes, provider_options=stream | (options or {}))
        self._types = {one.name: _DTYPES[one.type] for one in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name
        self._dimension = dimension
        self._run_options = import_onnxruntime().RunOptions()
        if self._on_gpu:
            # The stream orders copies and kernels; the session need not wait for them.
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._binding = self._session.io_binding()
        self._slots = [self._make_slot(max_tokens, max_rows) for _ in range(slots)]

    def _make_slot(self, max_tokens: int, max_rows: int) -> _Slot:
        def buffers(*, on_host: bool) -> dict[str, torch.Tensor]:
            return {
                name: self._buffer(max_tokens, _TORCH_DTYPES[dtype], on_host) for name, dtype in self._types.items()
            }

        values = max_rows * self._dimension
        outputs = (self._buffer(values, torch.float32, on_host) for on_host in (True, False))
        event = torch.cuda.Event() if self._on_gpu else None
        return _Slot(buffers(on_host=True), buffers(on_host=False), *outputs, event)

    def _buffer(self, size: int, dtype: torch.dtype, on_host: bool) -> torch.Tensor:
        if on_host:
            return torch.empty(size, dtype=dtype, pin_memory=self._on_gpu)
        return torch.empty(size, dtype=dtype, device=self._place)

    def run_all(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the output of each batch, float32 [b, d]."""
        outputs: list[NDArray[np.float32]] = []
        running: list[_Slot] = []
        for index, batch in enumerate(batches):
            if len(running) == len(self._slots):
                outputs.append(self._collect(running.pop(0)))
            slot = self._slots[index % len(self._slots)]
            self._fill(slot, batch)
            self._start(slot)
            running.append(slot)
        return [*outputs, *map(self._collect, running)]

    def fill(self, batch: Batch) -> None:
        """Copy a batch to the device, for ``compute``."""
        self._fill(self._slots[0], batch)
        if self._stream is not None:
            self._stream.synchronize()

    def compute(self) -> None:
        """Run the batch that is on the device, and wait; nothing is copied."""
        self._run(self._slots[0])
        if self._stream is not None:
            self._stream.synchronize()

    def _fill(self, slot: _Slot, batch: Batch) -> None:
        rows, length = batch["input_ids"].shape
        slot.shape = (rows, length)
        count = rows * length
        for name, values in as_types(batch, self._types).items():
            slot.host[name].numpy()[:count] = values.ravel()
            with torch.cuda.stream(self._stream):
                slot.device[name][:count].copy_(slot.host[name][:count], non_blocking=True)

    def _start(self, slot: _Slot) -> None:
        self._run(slot)
        values = slot.shape[0] * self._dimension
        with torch.cuda.stream(self._stream):
            slot.host_output[:values].copy_(slot.device_output[:values], non_blocking=True)
        if self._stream is not None:
            slot.event.record(self._stream)

    def _run(self, slot: _Slot) -> None:
        kind, number = self._place.type, self._place.index or 0
        for name, dtype in self._types.items():
            self._binding.bind_input(name, kind, number, dtype, slot.shape, slot.device[name].data_ptr())
        shape = (slot.shape[0], self._dimension)
        self._binding.bind_output(self._output, kind, number, np.float32, shape, slot.device_output.data_ptr())
        self._session.run_with_iobinding(self._binding, self._run_options)

    def _collect(self, slot: _Slot) -> NDArray[np.float32]:
        if slot.event is not None:
            slot.event.synchronize()
        rows = slot.shape[0]
        return slot.host_output[: rows * self._dimension].numpy().reshape(rows, -1).copy()


class CudaGraphs:
    """A session with a CUDA graph for each shape that occurs; a shape's first run captures it."""

    def __init__(self, settings: Settings, file: Path, dimension: int) -> None:
        self._settings, self._file, self._dimension = settings, file, dimension
        self._of_shape: dict[tuple[int, ...], Bound] = {}

    def run_all(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the output of each batch, float32 [b, d]."""
        return [self._for(batch["input_ids"].shape).run_all([batch])[0] for batch in batches]

    def _for(self, shape: tuple[int, ...]) -> Bound:
        if shape not in self._of_shape:
            rows, length = shape
            # With fixed sizes nothing is left that computes shapes on the CPU, which a capture does not allow.
            self._of_shape[shape] = Bound(
                self._settings,
                self._file,
                self._dimension,
                rows * length,
                rows,
                sizes={"batch": rows, "sequence": length},
                options={"enable_cuda_graph": "1"},
            )
        return self._of_shape[shape]
