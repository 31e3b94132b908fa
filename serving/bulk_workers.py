"""The workers of a bulk prediction: a Beam job over segments of a table.

The elements of the job are segments, not rows, and workers write files: so the same job runs on one core or on many
machines that share a file system.
"""

import atexit
import contextlib
import json
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from kubetfx.engine.session import Session
from kubetfx.errors import DataError, EngineError, KubetfxError, root_cause
from kubetfx.serving import bulk_output
from kubetfx.serving.block_prediction import BlockPredictor, Stopped
from kubetfx.serving.model_columns import ModelColumns
from kubetfx.serving.row_source import ReadingPlan
from kubetfx.serving.saved_model import SavedModel
from kubetfx.tables import blocks
from kubetfx.tables.table_file import Segment

_STOP_SECONDS = 30.0
"""Time that workers have to end their batch."""
_FAILURE = "failure.json"
"""File with the error that made a worker give up."""


def run(segments: Sequence[Segment], work: "Work", session: Session) -> str:
    """Predict the missing blocks of segments.

    Args:
        segments: of tables.
        work: what to do.
        session: The session of the engine that does it.

    Returns:
        Who did it, in words: `2 threads`, or the name of Beam's runner.

    Raises:
        KubetfxError: a worker had to give up, or Beam failed. Finished blocks are kept.
    """
    failure = work.folder / _FAILURE
    failure.unlink(missing_ok=True)
    try:
        pipeline, workers = _pipeline(session, len(segments))
        with pipeline:
            segments_to_do = pipeline | "Segments" >> beam.Create(list(segments), reshuffle=False)
            segments_to_do | "Spread" >> beam.Reshuffle() | "Predict" >> beam.ParDo(_PredictSegment(work))
    except EngineError as error:
        raise EngineError(f"{error} Finished blocks are kept.") from error
    except Exception as error:  # Beam wraps what a worker raised as it likes, and loses the type on the way
        if failure.is_file():
            document = json.loads(failure.read_text(encoding="utf-8"))
            raise _FAILURES[document["type"]](document["message"]) from error
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        raise KubetfxError(
            f"Beam could not run the job: {root_cause(error)}. Finished blocks are kept; the same command goes on from "
            "there."
        ) from error
    finally:  # Ctrl-C as well: Beam's threads don't notice
        _stop(work.folder)
    return workers


def _pipeline(session: Session, num_segments: int) -> tuple[beam.Pipeline, str]:
    """Return a pipeline, and in words who will run it."""
    if session.engine.runner != "DirectRunner":
        return session.pipeline(), session.engine.runner
    options = PipelineOptions(session.arguments)
    _use_cores(options, session.arguments, num_segments)
    # What DirectRunner ends up with, after it tried to download another one.
    return beam.Pipeline(runner=FnApiRunner(), options=options), _describe_workers(options)


def _was_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C came while this thread did the work of a Beam worker."""
    causes: BaseException | None = error
    while causes is not None:
        if isinstance(causes, KeyboardInterrupt):
            return True
        causes = causes.__cause__ or causes.__context__
    return KeyboardInterrupt.__name__ in str(error)


def _use_cores(options: PipelineOptions, arguments: Sequence[str], num_segments: int) -> None:
    """Use threads that share the model, as many as there are cores or segments, unless the options say otherwise.

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
class Work:
    """What every worker needs to know."""

    saved_model: Path
    """Folder of the SavedModel."""
    columns: ModelColumns
    """What the model takes."""
    plan: ReadingPlan
    """What is read of the tables."""
    root: Path
    """Folder that paths of images are relative to."""
    batch_size: int | None
    """Rows that the model is given at once. None: block_prediction.py decides."""
    folder: Path
    """Where finished blocks are written."""


@beam.typehints.with_input_types(Segment)
@beam.typehints.with_output_types(int)  # of nothing; without it, Beam looks for a type in all that is imported
class _PredictSegment(beam.DoFn):
    """Predicts the missing blocks of a segment, and leaves each as a file."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def setup(self) -> None:
        """Load the model, once per process."""
        work = self._work
        self._local = _local(work)
        self._predictor = BlockPredictor(
            self._local.model,
            work.columns,
            root=work.root,
            copied=work.plan.copied,
            batch_size=work.batch_size,
            is_stopped=lambda: self._local.is_stopped,
        )

    def process(self, segment: Segment) -> None:
        """Do what is missing.

        Raises:
            KubetfxError: predicting failed. The message is also written to a file, since Beam loses the error's type.
        """
        work = self._work
        try:
            finished = bulk_output.finished_blocks(work.folder)
            wanted = [block.number for block in segment.blocks if block.number not in finished]
            with self._local.busy():
                for block, rows in blocks.read_blocks(
                    segment, wanted, columns=work.plan.columns, numbers=work.plan.numbers
                ):
                    if self._local.is_stopped:
                        return
                    predicted = self._predictor.predict(rows)
                    bulk_output.write_block(
                        work.folder, block, index=predicted.index, columns=predicted.columns, bad=predicted.bad
                    )
        except Stopped:
            return
        except (KubetfxError, OSError) as error:
            _leave_failure(error, work.folder)
            raise


class _Local:
    """What those workers of a job share that are threads of one process."""

    def __init__(self, saved_model: Path) -> None:
        self.model = SavedModel(saved_model)
        self.is_stopped = False
        self._num_busy = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the model from being closed within the block."""
        with self._changed:
            self._num_busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_busy -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Ask the workers to stop, and close the model once they have: closed earlier, it would fail in their calls."""
        self.is_stopped = True
        with self._changed:
            is_idle = self._changed.wait_for(lambda: not self._num_busy, _STOP_SECONDS)
        if is_idle:
            self.model.close()


_locals: dict[Path, _Local] = {}
"""What workers share, by the folder of finished blocks."""
_locals_lock = threading.Lock()


def _local(work: Work) -> _Local:
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
