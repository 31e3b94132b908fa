"""Rows and answers out of records of PredictionLog, whoever wrote them, in blocks of columns.

`read_blocks` takes records that are laid out alike together (log_layouts.py), and others one by one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from kubetfx.arrays import Array
from kubetfx.serving.log_layouts import Layout, LayoutError, layout_of
from kubetfx.serving.log_messages import head_of, message
from kubetfx.serving.tfrecords import Records

PROBABILITIES, VALUE, SCORE, LABEL = "probabilities", "value", "score", "label"
"""Outputs of a model: of a classification (rows, classes) float, of a regression (rows,)."""

MAX_LAYOUTS = 64
"""Layouts that are remembered; beyond, records are read one by one."""
_MIN_ALIKE = 8
"""Records below which looking for those laid out alike costs more than it saves."""
_STRING = 7
DTYPES: Mapping[int, Any] = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
"""NumPy's types by TensorFlow's DataType."""
_LISTS = ("int_val", "int64_val", "bool_val", "uint32_val", "uint64_val")


@dataclass(frozen=True)
class Wanted:
    """What is read of a log."""

    model: str
    inputs: frozenset[str]
    outputs: frozenset[str] = frozenset((PROBABILITIES, VALUE, SCORE, LABEL))
    classes: tuple[str, ...] = ()
    """In the order of the probabilities; empty for a regression."""


@dataclass(frozen=True)
class Block:
    """Some rows of one version. A cell is a number, or bytes; a row that lacks a column has NaN or None."""

    version: int
    times: Array
    """(rows,) int64, seconds since 1970."""
    inputs: Mapping[str, Array]
    """(rows,) or (rows, any) float64, or object arrays of bytes."""
    outputs: Mapping[str, Array]
    """The same of the answers."""

    def __len__(self) -> int:
        return len(self.times)

    @property
    def form(self) -> tuple[Any, ...]:
        """What blocks that can be joined have in common."""
        return self.version, *(
            (name, array.dtype.kind, *array.shape[1:])
            for columns in (self.inputs, self.outputs)
            for name, array in sorted(columns.items())
        )


@dataclass
class Skipped:
    """Records that no row was read from."""

    of_other_models: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    """They are not a PredictionLog, or not a request to such a model."""

    def add(self, other: "Skipped") -> None:
        """Add what was skipped of other records.

        Args:
            other: The counts for those records.
        """
        self.of_other_models += other.of_other_models
        self.broken += other.broken


class LogReader:
    """Reads blocks, and remembers how records are laid out."""

    def __init__(self, wanted: Wanted) -> None:
        """Remember what to read.

        Args:
            wanted: What is read of the records.
        """
        self._wanted = wanted
        self._layouts: list[Layout] = []
        self.skipped = Skipped()

    def read(self, records: Records) -> Iterator[Block]:
        """Read the rows of records.

        Args:
            records: The records of a file.

        Yields:
            Blocks, in no particular order.
        """
        left = np.arange(len(records.starts))
        buffer = np.frombuffer(records.data, np.uint8)
        for layout in self._layouts:
            if len(left) >= _MIN_ALIKE:
                left, found = layout.take(records, buffer, left)
                yield from found
        while len(left) >= _MIN_ALIKE and len(self._layouts) < MAX_LAYOUTS:
            first, left = left[:1], left[1:]
            blocks = list(self._one_by_one(records, first))
            yield from blocks
            try:
                layout = layout_of(records.data[records.starts[first[0]] : records.ends[first[0]]], self._wanted)
            except LayoutError:
                break
            left, found = layout.take(records, buffer, left)
            self._layouts.append(layout)
            yield from found
        yield from joined(self._one_by_one(records, left))

    def _one_by_one(self, records: Records, positions: Array) -> Iterator[Block]:
        for start, end in zip(records.starts[positions].tolist(), records.ends[positions].tolist(), strict=True):
            try:
                block = block_of(records.data[start:end], self._wanted, self.skipped)
            except (DecodeError, ValueError, KeyError, TypeError, IndexError):
                self.skipped.broken += 1
                continue
            if block is not None:
                yield block


def joined(blocks: Iterator[Block]) -> Iterator[Block]:
    """Join blocks that have the same columns.

    Args:
        blocks: small ones.

    Yields:
        Fewer, with the same rows.
    """
    alike: defaultdict[tuple[Any, ...], list[Block]] = defaultdict(list)
    for block in blocks:
        alike[block.form].append(block)
    for parts in alike.values():
        first = parts[0]
        yield Block(
            first.version,
            np.concatenate([part.times for part in parts]),
            {name: np.concatenate([part.inputs[name] for part in parts]) for name in first.inputs},
            {name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs},
        )


def block_of(record: bytes, wanted: Wanted, skipped: Skipped) -> Block | None:
    """Read one record.

    Args:
        record: a serialised PredictionLog.
        wanted: What is read of it.
        skipped: Counts the record if it is of another model, or of none.

    Returns:
        Its rows; None if it is not of the model.

    Raises:
        DecodeError: it is not a PredictionLog.
        ValueError: its columns do not fit each other.
    """
    log = message("PredictionLog").FromString(record)
    head = head_of(log)
    if head is None:
        skipped.broken += 1
        return None
    inputs, outputs = _READERS[head.kind](getattr(log, head.kind), wanted)
    if head.model != wanted.model:
        skipped.of_other_models[head.model] += 1
        return None
    rows = max((len(cells) for cells in inputs.values()), default=0)
    if any(len(cells) != rows for cells in (*inputs.values(), *outputs.values())):
        raise ValueError("columns of different lengths")
    return Block(head.version, np.full(rows, head.seconds, np.int64), inputs, outputs)


_Columns = dict[str, Array]


def _of_predict(log: Any, wanted: Wanted) -> tuple[_Columns, _Columns]:
    given = {entry.key.decode(): entry.value for entry in log.request.inputs}
    inputs = {name: cells_of(value) for name, value in given.items() if name in wanted.inputs}
    if not inputs and len(given) == 1:  # tf.Examples, under whatever name
        (examples,) = (tensor_of(value) for value in given.values())
        if examples.dtype == object:
            inputs = example_columns(examples.ravel().tolist(), wanted)
    outputs = {
        name: cells_of(entry.value) for entry in log.response.outputs if (name := entry.key.decode()) in wanted.outputs
    }
    return inputs, outputs


def _of_classify(log: Any, wanted: Wanted) -> tuple[_Columns, _Columns]:
    return _of_input(log.request.input, wanted), _classes(log.response.result, wanted)


def _of_regress(log: Any, wanted: Wanted) -> tuple[_Columns, _Columns]:
    return _of_input(log.request.input, wanted), _values(log.response.result)


def _of_multi_inference(log: Any, wanted: Wanted) -> tuple[_Columns, _Columns]:
    inputs = _of_input(log.request.input, wanted)
    for result in log.response.results:
        if wanted.classes and result.HasField("classification_result"):
            return inputs, _classes(result.classification_result, wanted)
        if not wanted.classes and result.HasField("regression_result"):
            return inputs, _values(result.regression_result)
    raise ValueError("no result of the model's task")


_READERS = {
    "predict_log": _of_predict,
    "classify_log": _of_classify,
    "regress_log": _of_regress,
    "multi_inference_log": _of_multi_inference,
}


def _of_input(given: Any, wanted: Wanted) -> _Columns:
    chosen = given.example_list if given.HasField("example_list") else given.example_list_with_context
    return example_columns([chosen.context + example for example in chosen.examples], wanted)


def _classes(result: Any, wanted: Wanted) -> _Columns:
    place = {name.encode(): index for index, name in enumerate(wanted.classes)}
    found = np.zeros((len(result.classifications), len(place)))
    for row, classes in zip(found, result.classifications, strict=True):
        for one in classes.classes:
            row[place[one.label]] = one.score
    return {PROBABILITIES: found}


def _values(result: Any) -> _Columns:
    return {VALUE: np.array([one.value for one in result.regressions], np.float64)}


def cells_of(content: bytes) -> Array:
    """Read a column out of a TensorProto.

    Args:
        content: serialised.

    Returns:
        (rows,), or (rows, any) where it has two dimensions of which the second is not 1: float64, or bytes.

    Raises:
        ValueError: it has another shape, or a type that no column has.
    """
    found = tensor_of(content)
    if found.ndim == 0 or found.ndim > 2:
        raise ValueError("no column")
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    return found if found.dtype == object else found.astype(np.float64)


def tensor_of(content: bytes) -> Array:
    """Read a TensorProto.

    Args:
        content: serialised.

    Returns:
        The array; bytes are objects.

    Raises:
        ValueError: it does not describe a tensor, or one of a type that no column has.
    """
    proto = message("Tensor").FromString(content)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.dtype == _STRING:
        values = np.empty(len(proto.string_val), object)
        values[:] = proto.string_val
    elif proto.dtype not in DTYPES:
        raise ValueError("a type that no column has")
    elif packed := proto.tensor_content or proto.float_val or proto.double_val:
        values = np.frombuffer(packed, DTYPES[proto.dtype])
    else:
        listed: Sequence[int] = next((getattr(proto, name) for name in _LISTS if getattr(proto, name)), [])
        values = np.array(listed).astype(DTYPES[proto.dtype])
    size = int(np.prod(shape, dtype=np.int64))
    if 0 < len(values) < size:  # the last value stands for all that are left out
        values = np.concatenate([values, np.repeat(values[-1:], size - len(values))])
    return values.reshape(shape)


def example_columns(examples: Sequence[bytes], wanted: Wanted) -> _Columns:
    """Read columns out of tf.Examples.

    Args:
        examples: serialised.
        wanted: whose inputs are read; names that no example has are left out.

    Returns:
        (rows,) each: a number, NaN where it is missing; or, where any cell has bytes or several values, object: bytes,
        a number, a tuple of several, or None where it is missing.
    """
    cells: dict[str, list[Any]] = {}
    for row, content in enumerate(examples):
        for entry in message("Example").FromString(content).features.feature:
            name = entry.key.decode()
            if name in wanted.inputs:
                cells.setdefault(name, [None] * len(examples))[row] = _value(entry.value)
    return {name: _as_array(values) for name, values in cells.items()}


def _value(feature: Any) -> Any:
    if feature.HasField("bytes_list"):
        values: Sequence[Any] = feature.bytes_list.value
    elif feature.HasField("float_list"):
        values = np.frombuffer(feature.float_list.value, np.float32).tolist()
    else:
        values = feature.int64_list.value
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None


def _as_array(values: Sequence[Any]) -> Array:
    is_text = any(isinstance(value, bytes | tuple) for value in values)
    if is_text:
        found = np.empty(len(values), object)
        found[:] = values
        return found
    return np.array([np.nan if value is None else value for value in values], np.float64)
