r"""Make onnxruntime-gpu small enough to be copied to a GPU machine without network; to measure there, not to ship.

The wheel's CUDA library has machine code for six generations of GPUs. That of other architectures than those named is
overwritten with zeros, which compress to nothing, and so is PTX. TensorRT, tools and the C API's copy of the library
are left out. For 90 (H100, H200), 256 MB of onnxruntime-gpu 1.31.1 become 60 MB.

    pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 -d wheel onnxruntime-gpu
    python scripts/pack_onnxruntime_gpu.py wheel/onnxruntime_gpu-*.whl onnxruntime-gpu.tar.xz 90
"""

from __future__ import annotations

import argparse
import io
import lzma
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

_CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
_LEFT_OUT = (
    *("libonnxruntime.so", "libonnxruntime_providers_tensorrt.so"),
    *("onnxruntime/transformers/", "onnxruntime/quantization/", "onnxruntime/tools/"),
)
# A fat binary: magic, version 1, bytes of this header, bytes of all its entries.
_FAT_BINARY = struct.Struct("<IHHQ")
_MAGIC = struct.pack("<I", 0xBA55ED50)
# An entry: kind, unknown, bytes of this header, bytes of the payload, four unused fields, architecture.
_ENTRY = struct.Struct("<HHIQIIHHI")
_PTX, _MACHINE_CODE = 1, 2
# Most of the rest is code of x86-64, whose jumps compress better as absolute addresses.
_FILTERS = ({"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path, help="a .tar.xz")
    parser.add_argument("architectures", type=int, nargs="+", help="of GPUs: 90 for H100 and H200")
    options = parser.parse_args()
    with (
        zipfile.ZipFile(options.wheel) as source,
        lzma.open(options.output, "wb", filters=list(_FILTERS)) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as target,
    ):
        for item in source.infolist():
            if item.is_dir() or any(part in item.filename for part in _LEFT_OUT):
                continue
            data = bytearray(source.read(item))
            if item.filename.endswith(_CUDA_LIBRARY):
                sizes = clear_other_architectures(data, set(options.architectures))
                print({f"sm_{number}": f"{size / 1e6:.1f} MB" for number, size in sorted(sizes.items())})
            entry = tarfile.TarInfo(item.filename)
            entry.size, entry.mode = len(data), 0o755 if ".so" in item.filename else 0o644
            target.addfile(entry, io.BytesIO(data))
    print(f"{options.output}: {options.output.stat().st_size / 2**20:.1f} MiB")


def clear_other_architectures(library: bytearray, architectures: set[int]) -> Counter[int]:
    """Overwrite the code of other architectures in place; return the bytes of code that each had."""
    sizes: Counter[int] = Counter()
    position = library.find(_MAGIC)
    while position >= 0:
        _, version, header, size = _FAT_BINARY.unpack_from(library, position)
        end = position + header + size
        if version != 1 or header != _FAT_BINARY.size or end > len(library):
            # The number occurs elsewhere, too.
            position = library.find(_MAGIC, position + 4)
            continue
        _clear_entries(library, position + header, end, architectures, sizes)
        position = library.find(_MAGIC, end)
    return sizes


def _clear_entries(library: bytearray, position: int, end: int, architectures: set[int], sizes: Counter[int]) -> None:
    while position < end:
        kind, _, header, payload, *_, architecture = _ENTRY.unpack_from(library, position)
        start = position + header
        if kind not in (_PTX, _MACHINE_CODE) or start + payload > end:
            return
        sizes[architecture] += payload
        if kind == _PTX or architecture not in architectures:
            library[start : start + payload] = bytes(payload)
        position = start + payload


if __name__ == "__main__":
    main()
