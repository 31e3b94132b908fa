"""The previous run: the newest one of the workspace that was finished with other data than this one."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.run_record import RECORD, RunRecord

FINISHED = frozenset({"pushed", "unchanged", "not_blessed"})


@dataclass(frozen=True)
class Previous:
    """An earlier run."""

    run_id: str
    statistics: Path
    """Folder of its statistics artifact."""


def find(runs_folder: Path, *, statistics: Path) -> Previous | None:
    """The previous run; None if there is none.

    A run that changes nothing finds the same one as the run before it.

    Args:
        runs_folder: with a folder a run.
        statistics: of this run.
    """
    for path in sorted(runs_folder.glob(f"*/{RECORD}"), reverse=True):
        try:
            record = RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # a run that is being recorded, or one of another version
            continue
        found = record.output("StatisticsGen", "statistics")
        if record.state in FINISHED and found and found != statistics:
            return Previous(record.run_id, found)
    return None
