"""Records that are laid out alike, read together: a server writes the same fields in the same order repeatedly.

A layout is the bytes of one record, of which all but the values have to be the same in another: numbers are where they
are, and texts are gaps whose length is read. So a thousand records take a few operations per column.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kubetfx.arrays import Array
from kubetfx.serving.tfrecords import Records

if TYPE_CHECKING:
    from kubetfx.serving.logged_rows import Block, Wanted


_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_GAPS = 512
_SAME, _ANY, _CONTINUED = 0xFF, 0x00, 0x80
"""Bits of a byte that have to be the same: of a length or a number of any size, whether it goes on."""


class LayoutError(Exception):
    """A record is one for which this way of reading is not made."""


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    at: int
    """Behind the tag."""
    start: int
    end: int
    value: int


@dataclass
class _Numbers:
    """A tensor of numbers."""

    run: int
    """Number of the run that has it."""
    start: int
    """Within the run."""
    dtype: Any
    shape: tuple[int, ...]


@dataclass
class _Texts:
    """A tensor of texts."""

    gaps: list[int]
    shape: tuple[int, ...]


@dataclass
class Layout:
    """How some records are laid out."""

    version: int
    runs: list[tuple[Array, Array]]
    """Between the gaps: bytes, and the bits of them that have to be the same."""
    time: tuple[int, int, int] | None
    """Run, start and length of the time, a varint."""
    inputs: dict[str, _Numbers | _Texts]
    outputs: dict[str, _Numbers | _Texts]

    def take(self, records: Records, buffer: Array, positions: Array) -> "tuple[Array, Iterator[Block]]":
        """Read those of some records that are laid out so.

        Args:
            records: The records of a file.
            buffer: (bytes,) uint8 of the records.
            positions: of those to look at.

        Returns:
            Positions of the others; and a block of the rows that were read, if there are any.
        """
        at, ends = records.starts[positions], records.ends[positions]
        found = np.ones(len(positions), bool)
        pieces: list[Array] = []
        texts: list[tuple[Array, Array]] = []
        last = len(buffer)
        for number, (content, bits) in enumerate(self.runs):
            if number:  # a gap is before it
                length, start = _lengths(buffer, np.minimum(at, last - 1))
                texts.append((start, start + length))
                at = start + length
            found &= at + len(content) <= ends
            place = np.where(found, at, 0)[:, np.newaxis] + np.arange(len(content))
            piece = buffer[np.minimum(place, last - 1)]
            found &= (((piece ^ content) & bits) == 0).all(axis=1)
            pieces.append(piece)
            at = at + len(content)
        found &= at == ends
        if not found.any():
            return positions, iter(())
        return positions[~found], iter([self._block(records, found, pieces, texts)])

    def _block(self, records: Records, found: Array, pieces: list[Array], texts: list[tuple[Array, Array]]) -> "Block":
        from kubetfx.serving.logged_rows import Block

        number = int(found.sum())
        some = next(iter((*self.inputs.values(), *self.outputs.values())))
        rows = some.shape[0] if some.shape else 1
        times = np.zeros(number, np.int64)
        if self.time is not None:
            run, start, length = self.time
            content = pieces[run][found, start : start + length].astype(np.int64) & 127
            times = (content << (7 * np.arange(length))).sum(axis=1)

        def cells(one: _Numbers | _Texts) -> Array:
            if isinstance(one, _Numbers):
                size = int(np.prod(one.shape)) * np.dtype(one.dtype).itemsize
                content = np.ascontiguousarray(pieces[one.run][found, one.start : one.start + size])
                values: Array = content.view(one.dtype).astype(np.float64)
            else:
                starts, ends = (np.stack([texts[gap][end][found] for gap in one.gaps], axis=1) for end in (0, 1))
                values = np.empty(starts.size, object)
                data = records.data
                values[:] = [data[a:b] for a, b in zip(starts.ravel().tolist(), ends.ravel().tolist(), strict=True)]
            shape = (number * one.shape[0], *one.shape[1:])
            return values.reshape(shape[:1] if shape[1:] == (1,) else shape)

        inputs = {name: cells(one) for name, one in self.inputs.items()}
        outputs = {name: cells(one) for name, one in self.outputs.items()}
        return Block(self.version, np.repeat(times, rows), inputs, outputs)


def _lengths(buffer: Array, at: Array) -> tuple[Array, Array]:
    """Return lengths of up to four bytes, and where the texts begin."""
    length = np.zeros(len(at), np.int64)
    going = np.ones(len(at), bool)
    behind = at.copy()
    for shift in (0, 7, 14, 21):
        byte = buffer[np.minimum(behind, len(buffer) - 1)].astype(np.int64)
        length += np.where(going, (byte & 127) << shift, 0)
        behind += going
        going &= byte >= 128
        if not going.any():
            break
    return length, behind


@dataclass
class _Builder:
    """Collects what is a value in a record."""

    data: bytes
    bits: Array
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Start of the length and end of the text."""
    numbers: dict[tuple[bool, str], tuple[int, Any, tuple[int, ...]]] = field(default_factory=dict)
    texts: dict[tuple[bool, str], tuple[list[int], tuple[int, ...]]] = field(default_factory=dict)
    time: tuple[int, int] | None = None

    def fields(self, start: int, end: int) -> Iterator[_Field]:
        while start < end:
            tag, at = self.varint(start)
            kind = tag & 7
            if kind == _LENGTH:
                length, begins = self.varint(at)
                one = _Field(tag >> 3, kind, at, begins, begins + length, 0)
            elif kind == _VARINT:
                value, behind = self.varint(at)
                one = _Field(tag >> 3, kind, at, at, behind, value)
            elif kind in (_FIXED32, _FIXED64):
                one = _Field(tag >> 3, kind, at, at, at + (4 if kind == _FIXED32 else 8), 0)
            else:
                raise LayoutError("a wire type that is not used any more")
            if one.end > end:
                raise LayoutError("a field that is longer than its message")
            yield one
            start = one.end

    def varint(self, position: int) -> tuple[int, int]:
        value = shift = 0
        while position < len(self.data):
            byte = self.data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
            shift += 7
        raise LayoutError("a number that is cut")

    def message(self, found: _Field) -> Iterator[_Field]:
        """Return fields of a message whose length may be another in another record, but not the length's own."""
        self.bits[found.at : found.start] = _CONTINUED
        return self.fields(found.start, found.end)

    def tensor(self, found: _Field, key: tuple[bool, str]) -> None:
        from kubetfx.serving.logged_rows import DTYPES

        dtype = 0
        shape: tuple[int, ...] = ()
        content: _Field | None = None
        gaps: list[int] = []
        for one in self.message(found):
            if one.number == 1:
                dtype = one.value
            elif one.number == 2 and one.kind == _LENGTH:
                dims = [dim for dim in self.fields(one.start, one.end) if dim.number == 2]
                shape = tuple(
                    next((size.value for size in self.fields(dim.start, dim.end) if size.number == 1), 0)
                    for dim in dims
                )
            elif one.number in (4, 5, 6) and one.kind == _LENGTH:
                content = one
            elif one.number == 8 and one.kind == _LENGTH:
                gaps.append(len(self.gaps))
                self.gaps.append((one.at, one.end))
            else:
                raise LayoutError("numbers of any length")
        size = int(np.prod(shape, dtype=np.int64))
        if not 1 <= len(shape) <= 2:
            raise LayoutError("no column")
        if content is not None and dtype in DTYPES and not gaps:
            if content.end - content.start != size * np.dtype(DTYPES[dtype]).itemsize:
                raise LayoutError("values that are left out")
            self.bits[content.start : content.end] = _ANY
            self.numbers[key] = (content.start, DTYPES[dtype], shape)
        elif len(gaps) == size and content is None and len(self.gaps) <= _MAX_GAPS:
            self.texts[key] = (gaps, shape)
        else:
            raise LayoutError("values that are left out")


def layout_of(record: bytes, wanted: "Wanted") -> Layout:
    """Find the layout of a record.

    Args:
        record: a serialised PredictionLog of a Predict request with columns.
        wanted: what is read of it.

    Returns:
        How it is laid out.

    Raises:
        LayoutError: it is another kind of record, or of another model.
    """
    from kubetfx.serving.log_messages import message

    spec = message("PredictionLog").FromString(record).log_metadata.model_spec
    if spec.name.decode(errors="replace") != wanted.model or not spec.version.value:
        raise LayoutError("of another model")
    builder = _Builder(record, np.full(len(record), _SAME, np.uint8))
    for top in builder.fields(0, len(record)):
        if top.number == 1 and top.kind == _LENGTH:
            for one in builder.fields(top.start, top.end):
                if one.number == 4 and one.kind == _VARINT:
                    builder.bits[one.at : one.end] = _CONTINUED
                    builder.time = (one.at, one.end)
        elif top.number == 6 and top.kind == _LENGTH:
            _predict(builder, top)
        else:
            raise LayoutError("no Predict request")
    return _cut(builder, spec.version.value, wanted)


def _predict(builder: _Builder, log: _Field) -> None:
    for part in builder.message(log):
        if part.number not in (1, 2):
            raise LayoutError("a field that is not known")
        is_request = part.number == 1
        for one in builder.message(part):
            if one.number != (2 if is_request else 1) or one.kind != _LENGTH:
                continue  # which model was asked, and for which outputs: the same in all records
            name, value = "", None
            for half in builder.message(one):
                if half.number == 1:
                    name = builder.data[half.start : half.end].decode()
                elif half.number == 2:
                    value = half
            if value is None:
                raise LayoutError("no tensor")
            builder.tensor(value, (is_request, name))


def _cut(builder: _Builder, version: int, wanted: "Wanted") -> Layout:
    """Cut the record at its gaps."""
    bounds = [(0, 0), *builder.gaps, (len(builder.data), 0)]
    runs, begins = [], []
    content = np.frombuffer(builder.data, np.uint8)
    for (_, start), (end, _) in itertools.pairwise(bounds):
        runs.append((content[start:end], builder.bits[start:end]))
        begins.append(start)

    def place(start: int) -> tuple[int, int]:
        run = int(np.searchsorted(begins, start, side="right")) - 1
        return run, start - begins[run]

    inputs: dict[str, _Numbers | _Texts] = {}
    outputs: dict[str, _Numbers | _Texts] = {}
    for (is_input, name), (start, dtype, shape) in builder.numbers.items():
        if name in (wanted.inputs if is_input else wanted.outputs):
            (inputs if is_input else outputs)[name] = _Numbers(*place(start), dtype, shape)
    for (is_input, name), (gaps, shape) in builder.texts.items():
        if name in (wanted.inputs if is_input else wanted.outputs):
            (inputs if is_input else outputs)[name] = _Texts(gaps, shape)
    rows = {one.shape[0] for one in (*inputs.values(), *outputs.values())}
    if len(rows) != 1 or not inputs:
        raise LayoutError("no columns")
    time = None if builder.time is None else (*place(builder.time[0]), builder.time[1] - builder.time[0])
    return Layout(version, runs, time, inputs, outputs)
