"""Open an encoder that is an ONNX file, and refuse what cannot be run or pooled, before anything is changed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
from google.protobuf.message import Message

from monograph.bundle.graph_scanner import REFUSED_OPERATORS
from monograph.bundle.manifest import OP_DOMAINS, TOKENIZER_INPUTS
from monograph.errors import ExportError, first_line
from monograph_export.from_onnx.operators import MIN_OPSET

# What exporters call the vectors of tokens: optimum by itself, and for sentence-transformers.
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")
_MASK = "attention_mask"
_EXPORT_AGAIN = "export it again as an encoder: optimum-cli export onnx --task feature-extraction"
# Operators that find the range of what they round at run time, over all that they are given: the whole padded batch.
_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul"}
# Those, and operators on what is rounded already. Weights alone may be rounded: products are then of floats.
_ROUNDING = _DYNAMIC | {
    "QuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearAdd", "MatMulIntegerToFloat",
    "QAttention", "QGemm", "QOrderedMatMul", "QOrderedAttention",
}  # fmt: skip
# As the graph scanner has them, whose operators are bytes.
_REFUSED = {operator.decode() for operator in REFUSED_OPERATORS}
# Functions within functions may be small in the file, and endless where each call has its nodes.
_MAX_NODES = 200_000
_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16}


@dataclass(frozen=True)
class Encoder:
    """An encoder's graph: ``tokens`` is its output with the vectors of tokens, ``opset`` that of standard operators.

    ``files`` are its own and those that hold its weights, in order of their names.
    """

    file: Path
    files: tuple[Path, ...]
    model: ir.Model
    tokens: ir.Value
    opset: int

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs, in the order of the file."""
        return tuple(str(value.name) for value in self.model.graph.inputs)

    @property
    def tokens_name(self) -> str:
        """The name of the output with the vectors of tokens."""
        return str(self.tokens.name)

    @property
    def mask(self) -> ir.Value:
        """The input that is 1 for a token and 0 for padding, int64 [batch, sequence]."""
        return next(value for value in self.model.graph.inputs if value.name == _MASK)

    @property
    def precision(self) -> str:
        """What the layers compute in, in the words of the manifest."""
        if self._operators & _ROUNDING:
            return "int8"
        stored = {value.dtype for value in self.model.graph.initializers.values()}
        return "fp16" if ir.DataType.FLOAT16 in stored else "fp32"

    @property
    def max_batch_size(self) -> int | None:
        """The maximum of texts in a batch: 1 where the range of a rounding would be that of all of them, else None."""
        return 1 if self._operators & _DYNAMIC else None

    @property
    def _operators(self) -> set[str]:
        return {node.op_type for node in self.model.graph.all_nodes()}


def open_encoder(file: Path) -> Encoder:
    """Read an encoder's file.

    Raises:
        ExportError: it is no ONNX file, or has operators, inputs or outputs that no bundle can have, or weights that
            are not there or lie outside the checkpoint.

    """
    with _clear_errors(file):
        proto = onnx.load(file, format="protobuf", load_external_data=False)
    # ONNX Runtime opens the file as it is, so weights that only it would read are checked, too.
    locations = sorted(set(_locations(proto)))
    for location in locations:
        _check_weights(file, location)
    with _clear_errors(file):
        loaded = ir.from_proto(proto)
        ir.external_data.set_base_dir(loaded.graph, file.parent)
    _place_weights(loaded)
    if _count_inlined(loaded) > _MAX_NODES:
        raise ExportError(f"{file} has more than {_MAX_NODES:,} nodes within its functions: {_EXPORT_AGAIN}")
    with _clear_errors(file):
        model = common.RemoveInitializersFromInputsPass()(common.InlinePass()(loaded).model).model
    foreign = sorted({node.domain for node in model.graph.all_nodes()} - set(OP_DOMAINS))
    refused = sorted({node.op_type for node in model.graph.all_nodes()} & _REFUSED)
    if refused:
        raise ExportError(f"{file} has {', '.join(refused)}, which no bundle may have: {_EXPORT_AGAIN}")
    if foreign:
        raise ExportError(
            f"{file} has operators of {', '.join(foreign)}, which need a library of their own: {_EXPORT_AGAIN}"
        )
    opset = model.opset_imports.get("", 0)
    if opset < MIN_OPSET:
        raise ExportError(f"{file} is of opset {opset}, and modules are appended from {MIN_OPSET} on: {_EXPORT_AGAIN}")
    _check_inputs(file, model.graph.inputs)
    files = (file, *sorted({file.parent / location for location in locations}))
    return Encoder(file, files, model, _token_output(file, model.graph), opset)


def _count_inlined(model: ir.Model) -> int:
    """Return how many nodes a model has once its functions stand in place of their calls."""
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[ir.Node]) -> int:
        total = 0
        for node in nodes:
            called = node.op_identifier()
            if called in model.functions and called not in counts:
                # A function that calls itself is refused where it is inlined.
                counts[called] = 0
                counts[called] = count(model.functions[called].all_nodes())
            total += 1 + counts.get(called, 0)
        return total

    return count(model.graph.all_nodes())


def _locations(message: Message) -> Iterator[str]:
    """Yield where a message has weights outside the file, in whatever part of it: a function, a branch, a constant."""
    if isinstance(message, onnx.TensorProto):
        # Parsers differ in what they make of several.
        yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _locations(part)


@contextmanager
def _clear_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ExportError(f"{file} cannot be read as an ONNX graph: {first_line(error)}") from error


def _check_weights(file: Path, location: str) -> None:
    """Refuse weights outside the file's folder, and links that lead out of the checkpoint.

    Raises:
        ExportError: naming them.

    """
    path = file.parent / location
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(file.parent)):
        raise ExportError(f"{file} has weights at {str(path)!r}, outside its folder: {_EXPORT_AGAIN}")
    try:
        real = path.resolve(strict=True)
        regular = real.is_file()
    except (OSError, ValueError) as error:
        raise ExportError(f"{file} has weights at {str(path)!r}, which are not there ({first_line(error)})") from error
    if not any(real.is_relative_to(folder) for folder in _own_folders(file)):
        # Whatever it is, it would become part of a bundle, which may be shared.
        raise ExportError(f"the weights {str(path)!r} are a link to {str(real)!r}, outside the checkpoint")
    if not regular:
        raise ExportError(f"{file} has weights at {str(path)!r}, which is no file")


def _place_weights(model: ir.Model) -> None:
    """Follow links to weights, as a Hub's cache has them; by itself onnx-ir follows none."""
    for value, tensor in _external(model):
        path = Path(tensor.path)
        if path.is_symlink():
            real = path.resolve()
            value.const_value = ir.ExternalTensor(
                real.name,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=str(value.name),
                base_dir=real.parent,
            )


def _own_folders(file: Path) -> Iterator[Path]:
    """Yield where a file's links may lead: its folder, and in a Hub's cache the blobs of its repository."""
    folder = file.parent.resolve()
    yield folder
    # models--ORG--NAME/snapshots/REVISION/..., beside which lie the blobs.
    for parent in folder.parents:
        if parent.name == "snapshots":
            yield parent.parent / "blobs"


def _external(model: ir.Model) -> Iterator[tuple[ir.Value, ir.ExternalTensor]]:
    """Yield the weights that lie in files beside the graph."""
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value, value.const_value


def _check_inputs(file: Path, inputs: Sequence[ir.Value]) -> None:
    names = [str(value.name) for value in inputs]
    if foreign := [name for name in names if name not in TOKENIZER_INPUTS]:
        raise ExportError(
            f"{file} needs the inputs {', '.join(foreign)}, where a tokenizer gives {', '.join(TOKENIZER_INPUTS)}: "
            f"{_EXPORT_AGAIN}"
        )
    if missing := [name for name in ("input_ids", _MASK) if name not in names]:
        raise ExportError(f"{file} has no input {' and '.join(missing)}: {_EXPORT_AGAIN}")
    for value in inputs:
        shape = list(value.shape or ())
        if value.dtype != ir.DataType.INT64 or len(shape) != 2 or any(isinstance(axis, int) for axis in shape):
            raise ExportError(
                f"{file}: the input {value.name} is {value.dtype} {value.shape} and not INT64 of any number of texts "
                f"and tokens: {_EXPORT_AGAIN}"
            )


def _token_output(file: Path, graph: ir.Graph) -> ir.Value:
    outputs = {str(value.name): value for value in graph.outputs}
    tokens = next((outputs[name] for name in TOKEN_OUTPUTS if name in outputs), None)
    if tokens is None or (tokens.shape is not None and len(tokens.shape) != 3):
        raise ExportError(
            f"{file} gives {', '.join(outputs)}, and no vectors of tokens ({' or '.join(TOKEN_OUTPUTS)}) to be pooled: "
            f"{_EXPORT_AGAIN}"
        )
    if tokens.dtype not in _FLOATS:
        raise ExportError(f"{file}: {tokens.name} is {tokens.dtype} and not FLOAT or FLOAT16: {_EXPORT_AGAIN}")
    return tokens


def table_of(encoder: Encoder) -> ir.TensorProtocol | None:
    """Return the table of token embeddings, [rows, width] as it is stored, None where there is none to be seen."""
    ids = next(value for value in encoder.model.graph.inputs if value.name == "input_ids")
    for node in _gathers(ids):
        table = node.inputs[0]
        producer = None if table is None else table.producer()
        # Rounded as a whole, and widened before the rows are taken.
        stored = producer.inputs[0] if producer is not None and producer.op_type == "DequantizeLinear" else table
        tensor = None if stored is None else stored.const_value
        if tensor is not None and len(tensor.shape) == 2:
            return tensor
    return None


def _gathers(ids: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes that take rows by token ids, as they are or cast."""
    users = [user for user, _ in ids.uses()]
    cast = (user for node in users if node.op_type == "Cast" for user, _ in node.outputs[0].uses())
    return (node for node in itertools.chain(users, cast) if node.op_type == "Gather" and node.inputs[1] is not None)
