"""Predictions for whole tables and folders of images, on Beam: bounded memory, resumable, no row lost.

    input ─> blocks (bulk_input.py) ─> arrays (bulk_rows.py) ─> the model ─> blocks, and one file (bulk_output.py)

Beam hands segments of blocks to workers. A row never becomes a Beam element of its own, and what a worker leaves are
files: so the same job runs on one core or many machines that share a file system, and one that was killed goes on.
"""

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from kubetfx.errors import DataError, KubetfxError, UsageError
from kubetfx.serving import bulk_input, bulk_output, bulk_rows
from kubetfx.serving.bulk_input import CSV_BLOCK_BYTES, PATH_COLUMN, Block, Cut, ImageFolder, InputFiles, Segment
from kubetfx.serving.bulk_output import ROW_COLUMN, BulkOutput
from kubetfx.serving.bulk_rows import IMAGE_INPUT, Feed, ModelColumns
from kubetfx.serving.saved_model import DEFAULT_SIGNATURE, SavedModel, SessionOptions, Signature, read_signatures
from kubetfx.serving.status import Code, ServingError

Array = np.ndarray[Any, Any]

TABLE_BATCH = 4_096
IMAGE_BATCH = 32
"""Rows that the model is given at once."""
TABLE_CUT = Cut()
IMAGE_CUT = Cut(block_rows=256)
STORED_IMAGES_CUT = Cut(block_rows=32, segment_blocks=1_000_000)
"""Of a table that holds the images themselves: few are in memory at a time, and none is read in vain."""
OF_THE_ROWS = frozenset({Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.DATA_LOSS, Code.RESOURCE_EXHAUSTED})
"""What a model says of rows that it cannot take. Anything else, and no row would fare better."""
WATCH_SECONDS = 0.5
STOP_SECONDS = 30.0
"""For workers to end the batch that they are at."""
FORMAT = 1
"""Counted up when blocks of before are of no more use."""

_FAILURE = "failure.json"
"""What a worker had to give up for."""


@dataclass(frozen=True)
class BulkJob:
    """What is to be predicted, by what, and where to."""

    saved_model: Path
    """Folder of a version."""
    model_name: str
    model_version: int
    model_digest: str
    input: str
    """A CSV or Parquet file, a folder of them, or a folder of images."""
    output: Path
    columns: tuple[str, ...] = ()
    """Of the input, to be copied to the output."""
    batch_size: int | None = None
    """None: TABLE_BATCH or IMAGE_BATCH."""
    missing_values: tuple[str, ...] = ("",)
    """What stands for a missing cell in a CSV file."""
    beam_options: tuple[str, ...] = ()
    """As Beam's command line takes them."""
    force: bool = False
    """Replace an output of another input or model, and use no block of before."""


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    num_rows: int
    total_rows: int
    rows_per_second: float
    """Of this run, without the rows of blocks that were there before."""


@dataclass(frozen=True)
class BulkResult:
    """What came of a job."""

    path: Path
    num_rows: int
    num_errors: int
    errors_path: Path | None
    num_rows_before: int
    """Rows of blocks that were finished by an earlier run."""
    seconds: float
    """From the first block to the published file."""
    workers: str | None = None
    """Who predicted them, for example `2 threads`, or Beam's runner; None if nothing was left to predict."""


def predict(job: BulkJob, *, report: Callable[[Progress], None] = lambda _: None) -> BulkResult:
    """Predict every row of an input, and publish the predictions as one Parquet file.

    Args:
        job: what to do.
        report: told about the progress now and then, from another thread.

    Raises:
        UsageError: the output cannot be written or is another's, or the model takes something that is no column.
        DataError: the input cannot be read, or lacks a column; or not one row could be predicted.
        KubetfxError: rows are missing at the end, the disk is full, or Beam failed. Finished blocks are kept.
    """
    signature = _signature(job)
    columns = bulk_rows.model_columns(signature)
    _check_output_path(job)
    job = replace(job, output=job.output.absolute())
    found = bulk_input.find_input(job.input, images=columns.is_of_images)
    if isinstance(found, InputFiles) and job.output.resolve().parent == Path(job.input).resolve():
        raise UsageError(f"--output lies in the folder of the input. Received: {job.output}. Choose another folder.")
    with tempfile.TemporaryDirectory() as scratch:
        files, stamps = _stamped(found, Path(scratch))
        plan = _plan_reading(files, columns, signature, job)
        has_paths = PATH_COLUMN in plan.columns and IMAGE_INPUT not in plan.columns
        if isinstance(found, InputFiles) and columns.is_of_images and has_paths:
            stamps.append(_stamp_of_listed(files, plan, job))
        origin = bulk_output.Origin(_key(job, stamps), job.model_name, job.model_version, job.input)
        output = bulk_output.BulkOutput(job.output, origin)
        if not job.force and (there := output.existing()):
            errors_path = output.errors_path if there.num_errors else None
            return BulkResult(output.path, there.num_rows, there.num_errors, errors_path, there.num_rows, 0.0)
        with output.opened():
            if job.force:
                output.discard_blocks()
            if Path(scratch) in files.paths[0].parents:  # workers may be elsewhere
                files = replace(files, paths=(_moved(files.paths[0], output.folder),))
            return _run(job, files, columns, plan, output, report)


def _signature(job: BulkJob) -> Signature:
    try:
        signatures = read_signatures(job.saved_model, SessionOptions())
    except ServingError as error:
        raise UsageError(
            f"Version {job.model_version} cannot be read: {error.message}. Push the model again."
        ) from None
    if DEFAULT_SIGNATURE not in signatures:
        raise UsageError(
            f"The model has no signature {DEFAULT_SIGNATURE!r}. Received: {', '.join(signatures)}. Export one of that "
            "name, which takes a value or an encoded image a row."
        )
    return signatures[DEFAULT_SIGNATURE]


def _check_output_path(job: BulkJob) -> None:
    bulk_input.check_local(str(job.output), option="--output")
    if job.output.is_dir():
        raise UsageError(f"The output is a file. Received: the folder {job.output}. Add a name: predictions.parquet")
    if job.output.suffix != ".parquet":
        raise UsageError(f"The output is a Parquet file. Received: {job.output}. Try {job.output.stem}.parquet.")


def _stamped(found: InputFiles | ImageFolder, scratch: Path) -> tuple[InputFiles, list[str]]:
    """Files that can be read as tables, and what tells them from others of these names."""
    if isinstance(found, ImageFolder):
        listing = scratch / "listing.parquet"
        return InputFiles(found.root, (listing,), "parquet"), [bulk_input.list_images(found.root, listing)]
    return found, [f"{path.name} {bulk_input.stamp(path)}" for path in found.paths]


def _stamp_of_listed(files: InputFiles, plan: "_Plan", job: BulkJob) -> str:
    """A digest of sizes and times of the pictures that a list names: one that was mended is another input."""
    digest = hashlib.sha256()
    for segment in _segments(files, plan.cut):
        wanted = [block.number for block in segment.blocks]
        blocks = bulk_input.read_blocks(segment, wanted, columns=(PATH_COLUMN,), numbers=(), missing=job.missing_values)
        for _, rows in blocks:
            for name in rows.table.column(PATH_COLUMN).to_pylist():
                digest.update(f"{bulk_input.stamp(files.root / name) if name else ''}\0".encode())
    return digest.hexdigest()


def _moved(path: Path, folder: Path) -> Path:
    shutil.copyfile(path, folder / path.name)
    return folder / path.name


def _key(job: BulkJob, stamps: Sequence[str]) -> str:
    """All that decides what rows there are and what is predicted for them."""
    model = [job.model_version, job.model_digest]
    cuts = [asdict(cut) for cut in (TABLE_CUT, IMAGE_CUT, STORED_IMAGES_CUT)]
    settings = [list(job.columns), list(job.missing_values), cuts, CSV_BLOCK_BYTES]
    document = [FORMAT, str(Path(job.input).resolve()), list(stamps), model, settings]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


@dataclass(frozen=True)
class _Plan:
    """What is read of a file, and what becomes of it."""

    columns: tuple[str, ...]
    """To be read."""
    numbers: tuple[str, ...]
    """Those that may be read as float64."""
    copied: tuple[str, ...]
    """To be copied to the output."""
    cut: Cut


def _plan_reading(files: InputFiles, columns: ModelColumns, signature: Signature, job: BulkJob) -> _Plan:
    types = {path: bulk_input.column_types(path, files.kind) for path in files.paths}
    first = types[files.paths[0]]
    inputs = tuple(columns.inputs)
    copied = job.columns
    if columns.is_of_images:
        stored = IMAGE_INPUT in first
        inputs = (IMAGE_INPUT,) if stored else (PATH_COLUMN,)
        copied = tuple(dict.fromkeys([PATH_COLUMN] * (not stored) + list(copied)))
    for path, held in types.items():
        _check_columns(path, held, inputs, option="the model")
        _check_columns(path, held, copied, option="--columns")
        if any(held[name] != first[name] for name in copied):
            raise DataError(f"{path}: a column of --columns is of another type than in {files.paths[0]}.")
        for name in inputs:
            bulk_rows.check_type(name, held[name], columns.inputs.get(name, np.dtype(object)), path=path)
    taken = {ROW_COLUMN, *signature.outputs}
    if clashes := [name for name in copied if name in taken]:
        raise UsageError(
            f"--columns: the output has a column of that name. Received: {', '.join(clashes)}. Rename it in the input."
        )
    numbers = tuple(n for n in inputs if n in columns.inputs and columns.inputs[n].kind == "f" and n not in copied)
    cut = TABLE_CUT if not columns.is_of_images else STORED_IMAGES_CUT if IMAGE_INPUT in inputs else IMAGE_CUT
    return _Plan(tuple(dict.fromkeys([*inputs, *copied])), numbers, copied, cut)


def _check_columns(path: Path, held: Mapping[str, pa.DataType], wanted: Sequence[str], *, option: str) -> None:
    absent = [name for name in wanted if name not in held]
    if absent:
        whose = "of the model" if option == "the model" else f"that {option} names"
        raise DataError(
            f"{path} lacks columns {whose}: {', '.join(absent)}. Received: {', '.join(held)}. "
            "Add them; a cell may be empty."
        )


def _run(
    job: BulkJob,
    files: InputFiles,
    columns: ModelColumns,
    plan: _Plan,
    output: BulkOutput,
    report: Callable[[Progress], None],
) -> BulkResult:
    cut = list(_segments(files, plan.cut))
    blocks = [block for segment in cut for block in segment.blocks]
    if not any(block.num_rows for block in blocks):
        raise DataError(f"There are no rows. Received: {job.input}.")
    finished = bulk_output.finished_blocks(output.folder)
    before = sum(block.num_rows for block in blocks if block.number in finished)
    missing = [segment for segment in cut if any(block.number not in finished for block in segment.blocks)]
    work = _Work(
        saved_model=job.saved_model,
        columns=columns,
        plan=plan,
        root=files.root,
        missing_values=job.missing_values,
        batch_size=job.batch_size or (IMAGE_BATCH if columns.is_of_images else TABLE_BATCH),
        folder=output.folder,
    )
    started = time.monotonic()
    workers = None
    if missing:
        with _watched(output.folder, blocks, before, report):
            workers = _run_beam(missing, work, job.beam_options)
    origin = output.publish(blocks)
    return BulkResult(
        path=output.path,
        num_rows=origin.num_rows,
        num_errors=origin.num_errors,
        errors_path=output.errors_path if origin.num_errors else None,
        num_rows_before=before,
        seconds=time.monotonic() - started,
        workers=workers,
    )


def _segments(files: InputFiles, cut: Cut) -> Iterator[Segment]:
    number = 0
    for path in files.paths:
        for segment in bulk_input.segments(path, files.kind, first_block=number, cut=cut):
            number += len(segment.blocks)
            yield segment


@contextlib.contextmanager
def _watched(folder: Path, blocks: Sequence[Block], before: int, report: Callable[[Progress], None]) -> Iterator[None]:
    """Report the rows of finished blocks now and then: what workers leave is the same with every runner."""
    ended = threading.Event()
    started = time.monotonic()
    total = sum(block.num_rows for block in blocks)

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            finished = bulk_output.finished_blocks(folder)
            num_rows = sum(block.num_rows for block in blocks if block.number in finished)
            report(Progress(num_rows, total, (num_rows - before) / (time.monotonic() - started)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _run_beam(segments: Sequence[Segment], work: "_Work", arguments: Sequence[str]) -> str:
    """Predict the segments; who did it, in words."""
    failure = work.folder / _FAILURE
    failure.unlink(missing_ok=True)
    options = PipelineOptions(list(arguments))
    runner, workers = None, options.view_as(StandardOptions).runner
    if options.view_as(StandardOptions).runner in (None, "DirectRunner"):
        runner = FnApiRunner()  # what DirectRunner ends up with, after it tried to download another one
        _use_cores(options, arguments, len(segments))
        workers = _describe_workers(options)
    try:
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            segments_to_do = pipeline | "Segments" >> beam.Create(list(segments), reshuffle=False)
            segments_to_do | "Spread" >> beam.Reshuffle() | "Predict" >> beam.ParDo(_PredictSegment(work))
    except Exception as error:  # Beam wraps what a worker raised as it likes, and loses the type on the way
        if failure.is_file():
            document = json.loads(failure.read_text(encoding="utf-8"))
            raise _FAILURES[document["type"]](document["message"]) from error
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        raise KubetfxError(
            f"Beam could not run the job: {error}. Finished blocks are kept; the same command goes on from there."
        ) from error
    finally:  # Ctrl-C as well: Beam's threads don't notice
        _stop(work.folder)
    return str(workers)


def _was_interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C came while this thread did the work of a Beam worker."""
    causes: BaseException | None = error
    while causes is not None:
        if isinstance(causes, KeyboardInterrupt):
            return True
        causes = causes.__cause__ or causes.__context__
    return KeyboardInterrupt.__name__ in str(error)


def _use_cores(options: PipelineOptions, arguments: Sequence[str], num_segments: int) -> None:
    """Threads that share the model, as many as there are cores or segments, unless the user has said how many of what.

    Two segments are the break-even: with fewer, a second thread has nothing to do.
    """
    direct = options.view_as(DirectOptions)
    has_mode = any(argument.startswith("--direct_running_mode") for argument in arguments)
    if has_mode and direct.direct_running_mode == "in_memory":
        return
    if not any(argument.startswith("--direct_num_workers") for argument in arguments) or not direct.direct_num_workers:
        direct.direct_num_workers = min(len(os.sched_getaffinity(0)), num_segments)
    if not has_mode:
        direct.direct_running_mode = "multi_threading" if direct.direct_num_workers > 1 else "in_memory"


def _describe_workers(options: PipelineOptions) -> str:
    direct = options.view_as(DirectOptions)
    count = 1 if direct.direct_running_mode == "in_memory" else direct.direct_num_workers
    kind = "process" if direct.direct_running_mode == "multi_processing" else "thread"
    plural = "" if count == 1 else "es" if kind == "process" else "s"
    return f"{count} {kind}{plural}"


_FAILURES = {error.__name__: error for error in (KubetfxError, DataError)}


@dataclass(frozen=True)
class _Work:
    """What every worker is told."""

    saved_model: Path
    columns: ModelColumns
    plan: _Plan
    root: Path
    missing_values: tuple[str, ...]
    batch_size: int
    folder: Path


@beam.typehints.with_input_types(Segment)
@beam.typehints.with_output_types(int)  # of nothing; without it, Beam looks for a type in all that is imported
class _PredictSegment(beam.DoFn):
    """Predicts the missing blocks of a segment, and leaves each as a file."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def setup(self) -> None:
        """Load the model, once a process."""
        self._local = _local(self._work)
        signature = self._local.model.signatures[DEFAULT_SIGNATURE]
        self._inputs = tuple(signature.inputs)
        self._feeds = tuple(spec.tensor_name for spec in signature.inputs.values())
        self._classes = bulk_rows.read_classes(self._work.saved_model)
        constant = {"classes"} if self._classes else set()  # their names are the same in each row
        self._outputs = {name: spec.tensor_name for name, spec in signature.outputs.items() if name not in constant}

    def process(self, segment: Segment) -> None:
        """Do what is missing.

        Raises:
            KubetfxError: what it says is left in a file too, for whoever gets Beam's error.
        """
        work = self._work
        try:
            finished = bulk_output.finished_blocks(work.folder)
            wanted = [block.number for block in segment.blocks if block.number not in finished]
            blocks = bulk_input.read_blocks(
                segment, wanted, columns=work.plan.columns, numbers=work.plan.numbers, missing=work.missing_values
            )
            with self._local.busy():
                for block, rows in blocks:
                    if self._local.is_stopped:
                        return
                    self._predict_block(block, bulk_rows.to_feed(rows, work.columns))
        except (KubetfxError, OSError) as error:
            _leave_failure(error, work.folder)
            raise

    def _predict_block(self, block: Block, feed: Feed) -> None:
        reasons: dict[int, str] = {}
        answers: list[list[Array]] = []
        for start in range(0, len(feed.index), self._work.batch_size):
            if self._local.is_stopped:
                return
            positions = np.arange(start, min(start + self._work.batch_size, len(feed.index)))
            arrays = {name: array[positions] for name, array in feed.arrays.items()}
            if self._work.columns.is_of_images:
                arrays[IMAGE_INPUT], unread = bulk_rows.read_images(arrays[IMAGE_INPUT], self._work.root)
                reasons |= {int(positions[position]): reason for position, reason in unread.items()}
                readable = np.array([position not in unread for position in range(len(positions))], bool)
                positions, arrays = positions[readable], {IMAGE_INPUT: arrays[IMAGE_INPUT][readable]}
            answers += self._answer([arrays[name] for name in self._inputs], positions, reasons)
        kept = feed.with_bad(reasons)
        outputs = dict(zip(self._outputs, zip(*answers, strict=True), strict=True)) if answers else {}
        columns: dict[str, Any] = {name: kept.table.column(name) for name in self._work.plan.copied}
        columns |= bulk_rows.to_columns(outputs, self._classes)
        bulk_output.write_block(self._work.folder, block, index=kept.index, columns=columns, bad=kept.bad)

    def _answer(self, arrays: list[Array], positions: Array, reasons: dict[int, str]) -> list[list[Array]]:
        """What the model says, in one piece or several. Rows that make it fail are found by halving."""
        if not len(positions):
            return []
        try:
            return [self._call(arrays, len(positions))]
        except ServingError as error:
            if error.code not in OF_THE_ROWS:
                raise KubetfxError(f"The model cannot be asked: {error}. Finished blocks are kept.") from error
            if len(positions) == 1:
                reasons[int(positions[0])] = f"The model failed: {_in_words(error.message)}"
                return []
        half = len(positions) // 2
        return [
            *self._answer([array[:half] for array in arrays], positions[:half], reasons),
            *self._answer([array[half:] for array in arrays], positions[half:], reasons),
        ]

    def _call(self, arrays: list[Array], num_rows: int) -> list[Array]:
        shaped = [
            array[:, np.newaxis] if self._work.columns.is_column_vector[name] else array
            for name, array in zip(self._inputs, arrays, strict=True)
        ]
        answers = self._local.model.run(self._feeds, shaped, tuple(self._outputs.values()))
        for name, answer in zip(self._outputs, answers, strict=True):
            if answer.ndim == 0 or len(answer) != num_rows:
                raise KubetfxError(
                    f"The model's output {name!r} has not one value a row. Received: shape {answer.shape} for "
                    f"{num_rows} rows."
                )
        return answers


def _in_words(message: str) -> str:
    """An error of TensorFlow without the nodes of the graph, and an assertion's own text alone."""
    first_line = message.partition("\n")[0]
    assertion = re.match(r"assertion failed: \[(.+?)\](?: \[|$)", first_line)
    return assertion[1] if assertion else first_line


class _Local:
    """What the workers of a job have in common that are threads of one process."""

    def __init__(self, saved_model: Path) -> None:
        self.model = SavedModel(saved_model, SessionOptions())
        self.is_stopped = False
        self._num_busy = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While the model is not to be taken away."""
        with self._changed:
            self._num_busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_busy -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Let workers leave what they are at, and close the model once they have: it would fail under their hands."""
        self.is_stopped = True
        with self._changed:
            is_idle = self._changed.wait_for(lambda: not self._num_busy, STOP_SECONDS)
        if is_idle:
            self.model.close()


_locals: dict[Path, _Local] = {}
"""By the folder of finished blocks."""
_locals_lock = threading.Lock()


def _local(work: _Work) -> _Local:
    with _locals_lock:
        if work.folder not in _locals:
            _locals[work.folder] = _Local(work.saved_model)
        return _locals[work.folder]


def _stop(folder: Path) -> None:
    with _locals_lock:
        local = _locals.pop(folder, None)
    if local:
        local.stop()


@atexit.register  # of worker processes; a session that the end of the interpreter takes apart complains
def _stop_all() -> None:
    for folder in list(_locals):
        _stop(folder)


def _leave_failure(error: Exception, folder: Path) -> None:
    message = str(error)
    if isinstance(error, OSError):
        message = f"A block could not be written: {error}. Free the disk, and give the same command again."
    document = {"type": "DataError" if isinstance(error, DataError) else "KubetfxError", "message": message}
    with contextlib.suppress(OSError):  # the disk may be full
        aside = folder / f"{_FAILURE}.{uuid.uuid4().hex}"
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(folder / _FAILURE)
