"""Predictions for whole tables and folders of images, on Beam: bounded memory, resumable, no row lost.

    input ─> blocks (tables/blocks.py) ─> the model (block_prediction.py) ─> blocks, and one file (bulk_output.py)

Beam hands segments of blocks to workers (bulk_workers.py). Finished blocks are files, so a job that was killed goes on.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kubetfx.artifacts import IMAGE_BYTES, IMAGE_PATH
from kubetfx.engine.session import PATIENCE, Session
from kubetfx.errors import DataError, UsageError
from kubetfx.serving import bulk_input, bulk_output, bulk_workers, row_source
from kubetfx.serving.block_prediction import default_signature
from kubetfx.serving.bulk_output import ROW_COLUMN, BulkOutput
from kubetfx.serving.model_columns import ModelColumns, model_columns
from kubetfx.serving.row_source import ReadingPlan
from kubetfx.serving.saved_model import Signature, read_signatures
from kubetfx.serving.status import ServingError
from kubetfx.tables import blocks as table_blocks
from kubetfx.tables.csv_options import UNKNOWN_CSV, CsvOptions
from kubetfx.tables.files import TableFiles
from kubetfx.tables.table_file import Block, Cut, Segment
from kubetfx.tables.text_table import BLOCK_BYTES

WATCH_SECONDS = 0.5
_FORMAT = 2
"""Incremented when blocks of an earlier version of kubetfx cannot be used any more."""


@dataclass(frozen=True)
class BulkJob:
    """What is to be predicted, by what, and where to."""

    saved_model: Path
    """Folder of a version."""
    model_name: str
    model_version: int
    model_digest: str
    """Digest of the version's files, so that blocks of another model are not taken."""
    input: str
    """A table's file, a folder of such files, or a folder of images."""
    output: Path
    """Parquet file to write."""
    columns: tuple[str, ...] = ()
    """Columns of the input to copy to the output."""
    batch_size: int | None = None
    """Rows that the model is given at once. None: block_prediction.py decides."""
    csv: CsvOptions = UNKNOWN_CSV
    """How CSV files are written, as far as it is known."""
    beam_options: tuple[str, ...] = ()
    """Pipeline options, as Beam's command line takes them, with references."""
    beam_timeout: float = PATIENCE
    """Seconds that an engine may take to answer."""
    force: bool = False
    """Replace an output of another input or model, and predict all blocks again."""


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    num_rows: int
    """Rows of finished blocks, those of earlier runs included."""
    total_rows: int
    """Rows of the input."""
    rows_per_second: float
    """Rate of this run, without the rows of blocks that an earlier run finished."""


@dataclass(frozen=True)
class BulkResult:
    """The output of a job, and how many rows have a prediction."""

    path: Path
    """File of the predictions."""
    num_rows: int
    """Rows of the input."""
    num_errors: int
    """Rows without a prediction."""
    errors_path: Path | None
    """File of the rows without a prediction; None if each has one."""
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
        report: called about twice a second, from another thread.

    Returns:
        Where the predictions are, and how many rows have one.

    Raises:
        UsageError: the output cannot be written, or is another job's; or the model takes something other than columns.
        DataError: the input cannot be read, or lacks a column; or not one row could be predicted.
        KubetfxError: rows are missing at the end, the disk is full, or Beam failed. Finished blocks are kept.
    """
    signature = _signature(job)
    columns = model_columns(signature)
    _check_output_path(job)
    job = replace(job, output=job.output.absolute())
    found = bulk_input.find_input(job.input, images=columns.is_of_images)
    if isinstance(found, TableFiles) and job.output.resolve().parent == Path(job.input).resolve():
        raise UsageError(f"`output` is in the folder of the input. Received: {job.output}. Choose another folder.")
    with tempfile.TemporaryDirectory() as scratch:
        files, stamps = _stamped(found, Path(scratch))
        types = {path: table_blocks.column_types(path, files.format, job.csv) for path in files.paths}
        outputs = (ROW_COLUMN, *signature.outputs)
        plan = row_source.plan_reading(types, columns, outputs=outputs, copied=job.columns)
        has_paths = IMAGE_PATH in plan.columns and IMAGE_BYTES not in plan.columns
        if isinstance(found, TableFiles) and columns.is_of_images and has_paths:
            stamps.append(_stamp_of_listed(files, plan, job))
        origin = bulk_output.Origin(_key(job, stamps), job.model_name, job.model_version, job.input)
        output = bulk_output.BulkOutput(job.output, origin)
        if not job.force and (there := output.existing()):
            errors_path = output.errors_path if there.num_errors else None
            return BulkResult(output.path, there.num_rows, there.num_errors, errors_path, there.num_rows, 0.0)
        with output.opened():
            if job.force:
                output.discard_blocks()
            listing = Path(files.paths[0])
            if Path(scratch) in listing.parents:  # workers may be elsewhere
                files = replace(files, paths=(shutil.copyfile(listing, str(output.folder / listing.name)),))
            return _run(job, files, columns, plan, output, report)


def _signature(job: BulkJob) -> Signature:
    try:
        return default_signature(read_signatures(job.saved_model))
    except ServingError as error:
        raise UsageError(
            f"Version {job.model_version} cannot be read: {error.message}. Push the model again."
        ) from None


def _check_output_path(job: BulkJob) -> None:
    bulk_input.check_local(str(job.output), what="`output`")
    if job.output.is_dir():
        raise UsageError(f"The output is a file. Received: the folder {job.output}. Add a name: predictions.parquet")
    if job.output.suffix != ".parquet":
        raise UsageError(f"The output is a Parquet file. Received: {job.output}. Try {job.output.stem}.parquet.")


def _stamped(found: TableFiles | Path, scratch: Path) -> tuple[TableFiles, list[str]]:
    """Return files that can be read as tables, and what changes when the content of one does."""
    if isinstance(found, Path):
        listing = scratch / "listing.parquet"
        return TableFiles(found, (str(listing),), "parquet", listing.name), [bulk_input.list_images(found, listing)]
    return found, [f"{os.path.relpath(path, str(found.root))} {bulk_input.stamp(Path(path))}" for path in found.paths]


def _stamp_of_listed(files: TableFiles, plan: ReadingPlan, job: BulkJob) -> str:
    """Return a digest of sizes and times of the pictures that a list names.

    With a changed picture it is another input.
    """
    digest = hashlib.sha256()
    for segment in _segments(files, plan.cut, job):
        wanted = [block.number for block in segment.blocks]
        for _, rows in table_blocks.read_blocks(segment, wanted, columns=(IMAGE_PATH,), numbers=()):
            for name in rows.table.column(IMAGE_PATH).to_pylist():
                digest.update(f"{bulk_input.stamp(Path(str(files.root)) / name) if name else ''}\0".encode())
    return digest.hexdigest()


def _key(job: BulkJob, stamps: Sequence[str]) -> str:
    """Return a digest of all that decides which rows there are and what is predicted for them."""
    model = [job.model_version, job.model_digest]
    cuts = [asdict(cut) for cut in (row_source.TABLE_CUT, row_source.IMAGE_CUT, row_source.STORED_IMAGES_CUT)]
    settings = [list(job.columns), asdict(job.csv), cuts, BLOCK_BYTES]
    document = [_FORMAT, str(Path(job.input).resolve()), list(stamps), model, settings]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _run(
    job: BulkJob,
    files: TableFiles,
    columns: ModelColumns,
    plan: ReadingPlan,
    output: BulkOutput,
    report: Callable[[Progress], None],
) -> BulkResult:
    cut = list(_segments(files, plan.cut, job))
    blocks = [block for segment in cut for block in segment.blocks]
    if not any(block.num_rows for block in blocks):
        raise DataError(f"There are no rows. Received: {job.input}.")
    finished = bulk_output.finished_blocks(output.folder)
    before = sum(block.num_rows for block in blocks if block.number in finished)
    missing = [segment for segment in cut if any(block.number not in finished for block in segment.blocks)]
    work = bulk_workers.Work(
        saved_model=job.saved_model,
        columns=columns,
        plan=plan,
        root=Path(str(files.root)),
        batch_size=job.batch_size,
        folder=output.folder,
    )
    started = time.monotonic()
    workers = None
    if missing:
        with _watched(output.folder, blocks, before, report):
            session = Session(
                job.beam_options,
                folder=output.folder,
                places=[job.saved_model, Path(str(files.root))],
                patience=job.beam_timeout,
            )
            workers = bulk_workers.run(missing, work, session)
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


def _segments(files: TableFiles, cut: Cut, job: BulkJob) -> Iterator[Segment]:
    number = 0
    for path in files.paths:
        for segment in table_blocks.segments(path, files.format, job.csv, first_block=number, cut=cut):
            number += len(segment.blocks)
            yield segment


@contextlib.contextmanager
def _watched(folder: Path, blocks: Sequence[Block], before: int, report: Callable[[Progress], None]) -> Iterator[None]:
    """Report the rows of finished blocks now and then: workers of every runner leave the same files."""
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
