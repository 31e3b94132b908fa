"""A doctor for engines: three rows go through the engine that is configured, and a worker says what it has.

The job is made of Python's own functions, and what a worker is to do travels as text (probe.py): so it runs where
kubetfx is not, and says so, also with another Python or another Beam.
"""

import contextlib
import functools
import itertools
import json
import platform
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import grpc
from absl import logging
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from kubetfx.engine import probe
from kubetfx.engine.arguments import check_with_engine
from kubetfx.engine.jobs import Job, listens, wait_for
from kubetfx.engine.session import Session
from kubetfx.errors import EngineError, root_cause
from kubetfx.storage import Location, ObjectPath, write_text
from kubetfx.version import library_version

ROWS = 3
_ANSWER_SECONDS = 10.0
"""That a job service may take to say which options it has."""


@dataclass(frozen=True)
class Worker:
    """What a worker said of itself."""

    host: str
    python: str
    beam: str | None
    tensorflow: str | None
    kubetfx: str | None

    def __str__(self) -> str:
        return (
            f"Python {self.python}, apache-beam {self.beam}, TensorFlow {self.tensorflow}, kubetfx {self.kubetfx} "
            f"on {self.host}"
        )


def examine_engine(session: Session) -> list[Worker]:
    """Run three rows through the engine of a session, and compare what the workers have with what is here.

    Args:
        session: The session of the engine.

    Returns:
        The workers that the rows came to.

    Raises:
        EngineError: what is missing: the engine or its pool cannot be reached, no worker comes, or a worker has another
            Python, other libraries, other code, or does not see a place.
        ConfigError: neither Beam nor the engine knows an option.
    """
    if session.engine.endpoint:
        wait_for(session.engine.endpoint, session.patience, what="the job service", key="beam.endpoint")
        check_with_engine(session.arguments, _described_options(session.engine.endpoint))
    with _probe_file(session.shared) as (place, nonce):
        request = {
            "probe": str(place),
            "nonce": nonce,
            "places": [str(place) for place in session.places],
            "modules": list(session.modules),
        }
        facts = _asked(session, request, place.name)
    faults = list(dict.fromkeys(fault for found in facts for fault in _faults(found, session)))
    if faults:
        raise EngineError(
            "\n".join([f"The workers of {session.engine} cannot do the work:", *(f"  {fault}" for fault in faults)])
        )
    return [_worker(found) for found in facts]


def _described_options(endpoint: str, *, seconds: float = _ANSWER_SECONDS) -> list[str]:
    try:
        with grpc.insecure_channel(endpoint) as channel:
            answer = beam_job_api_pb2_grpc.JobServiceStub(channel).DescribePipelineOptions(
                beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=seconds
            )
    except grpc.RpcError as error:
        raise EngineError(
            f"beam.endpoint: what listens there does not answer as a job service of Beam does ({error.code().name}: "
            f"{error.details()}). Received: {endpoint}. Give the address of the job service, such as that of Flink's "
            "or Spark's job server, by default port 8099."
        ) from None
    return [option.name for option in answer.options]


@contextlib.contextmanager
def _probe_file(folder: Location) -> Iterator[tuple[Location, str]]:
    """Provide a file for the workers to read. What they leave beside it is removed."""
    place, nonce = folder / f"probe-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    write_text(place, nonce)
    try:
        yield place, nonce
    finally:
        for left in folder.glob(f"{place.name}*"):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()


def _asked(session: Session, request: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return what the workers say, each once."""
    source = Path(probe.__file__).read_text(encoding="utf-8")
    text = json.dumps(request)
    expression = (
        f"(lambda space: exec({source!r}, space) or [space['report']({text!r})])({{'__name__': 'kubetfx_probe'}})"
    )
    job = Job(session.arguments, patience=session.patience)
    # Python's own functions alone: a function of ours would have to be there before it can say that it is not.
    rows = job | beam.Impulse() | "Rows" >> beam.FlatMap(functools.partial(itertools.chain, [expression] * ROWS))
    rows | "Ask" >> beam.FlatMap(eval)
    try:
        result = job.run()
        has_ended = job.wait(result, seconds=session.patience)
    except EngineError:
        raise
    except Exception as error:
        return [_facts_in(error, session)]
    if not has_ended:
        raise EngineError(_why_no_worker(session))
    answers = [json.loads(place.read_text()) for place in session.shared.glob(f"{name}.*.json")]
    if not answers:
        raise EngineError(
            f"The workspace is not shared: a worker found the probe file, and what it wrote beside it is not here. "
            f"Received: {session.shared}. Let the workers mount the very folder, for writing."
        )
    return list({json.dumps(answer, sort_keys=True): answer for answer in answers}.values())


def _facts_in(error: Exception, session: Session) -> dict[str, Any]:
    """Return what a worker said that could not leave a file."""
    text = str(error)
    logging.error("What the engine says:\n%s", text)
    if probe.MARK in text:
        found: dict[str, Any]
        found, _ = json.JSONDecoder().raw_decode(text[text.index(probe.MARK) + len(probe.MARK) :])
        return found
    raise EngineError(
        f"A job of three rows failed on {session.engine}: {root_cause(error)}. The workers need Python "
        f"{platform.python_version()} and apache-beam {library_version('apache-beam')}; their own log has the rest."
    ) from None


def _why_no_worker(session: Session) -> str:
    engine = session.engine
    needs = (
        f"a `python` on its PATH that is Python {_minor(platform.python_version())} with apache-beam "
        f"{library_version('apache-beam')}, TensorFlow {library_version('tensorflow')} and pip"
    )
    begins = f"No worker of {engine} did anything within {session.patience:g} s (beam.timeout)"
    if engine.pool and not listens(engine.pool):
        return (
            f"{begins}. No pool of workers listens at {engine.pool}, seen from this machine. Received: "
            f"beam.environment.config: {engine.pool}. Start the pool, or correct the address."
        )
    if engine.pool:
        return (
            f"{begins}. A pool listens at {engine.pool}, and the workers that it starts end without a word, or do not "
            f"reach the engine. The pool needs {needs}. What it prints says more."
        )
    return (
        f"{begins}. The engine took the job. It may have no free slots, or cannot start workers: in "
        f"{engine.environment or 'its default environment'} it needs {needs}. Its own log says more."
    )


def _faults(found: dict[str, Any], session: Session) -> Iterator[str]:
    python, code = found["python"], found["code"]
    if _minor(python) != _minor(platform.python_version()):
        yield (
            f"Python is another one. Received: {python} ({found['executable']} on {found['host']}), and "
            f"{platform.python_version()} here. Start the workers with Python {_minor(platform.python_version())}."
        )
    for library in ("apache-beam", "tensorflow"):
        if found[library] != library_version(library):
            yield (
                f"{library} is another one, or none. Received: {found[library]} on {found['host']}, and "
                f"{library_version(library)} here. Give the workers the environment of requirements.txt, or the image "
                "beam-worker."
            )
    if code is None:
        yield (
            f"kubetfx is not there. Received: no package of this name on {found['host']}. A pool unpacks what it is "
            "sent if it starts its workers with Beam's boot program (docs/scale.md); or give the workers the image "
            "beam-worker."
        )
    elif code != session.code:
        yield (
            f"kubetfx is another one. Received: {found['kubetfx']} on {found['host']}, whose code differs. Give the "
            "workers the image of this very version, or let the pool unpack what it is sent (docs/scale.md)."
        )
    if found["absent_modules"]:
        yield (
            f"Your modules are not there. Received: {', '.join(found['absent_modules'])} on {found['host']}. Let the "
            "pool unpack what it is sent (docs/scale.md), or put them into the image."
        )
    if found["workspace"] != "seen":
        begins = f"The workspace is not seen. Received: {session.shared}, of which {found['host']} says: "
        if isinstance(session.shared, ObjectPath):
            yield (
                f"{begins}{found['workspace']} Give the workers the address of the store and credentials for it, in "
                "their environment."
            )
        else:
            yield (
                f"{begins}{found['workspace']}. Let the workers mount it under the same path, for reading and writing, "
                "or set `workspace` to a folder that they share, or to a bucket."
            )
    for place in found["absent_places"]:
        yield (
            f"A place is not seen. Received: {place} on {found['host']}. Let the workers mount it under the same path."
        )


def _worker(found: dict[str, Any]) -> Worker:
    return Worker(found["host"], found["python"], found["apache-beam"], found["tensorflow"], found["kubetfx"])


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
