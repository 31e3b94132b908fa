"""The section `monitoring`: which requests are looked at, and how far they may be from the training rows."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from kubetfx.config.durations import Duration
from kubetfx.config.evaluation_section import Bounds
from kubetfx.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class ColumnBounds(Section):
    """Bounds of one column. What is left out is as `monitoring` says for all columns."""

    skew: Share | None = None
    """Farthest that the requests may be from the training rows: L-infinity distance for text, Jensen-Shannon divergence
    for numbers, as in TFDV. 1: any."""
    drift: Share | None = None
    """Farthest that the newest period may be from those before it, by the same measures. 1: any."""
    missing: Share | None = None
    """How much larger the share of missing cells may be than that of the training rows. 1: any."""
    unseen: Share | None = None
    """Largest share of categories that no training row had. 1: any."""


class MonitoringConfig(Section):
    """What `kubetfx monitor` looks at in a log of requests, and the bounds that end it with exit code 3. Nothing here
    trains anything again."""

    requests: str | None = None
    """Folder of the log, on this machine or in a bucket; what `kubetfx serve --log-requests` was given."""
    last: Duration | None = None
    """Only requests of this time before the newest one: 7d. None: all that there are."""
    period: Duration = "1d"
    """Length of a period, for quality over time, and for drift: the newest against those before. Periods end at the
    newest request."""
    min_rows: int = Field(300, ge=1)
    """Fewer rows are shown and not judged: among few, chance alone makes distances."""
    skew: Share = 0.1
    """Farthest that the requests may be from the training rows, in each column: L-infinity distance for text,
    Jensen-Shannon divergence for numbers, as in TFDV. 1: any."""
    drift: Share = 0.1
    """Farthest that the newest period may be from those before it, in each column. 1: any."""
    missing: Share = 0.05
    """How much larger the share of missing cells may be than that of the training rows, in each column. 1: any."""
    unseen: Share = 0.01
    """Largest share of categories that no training row had, in each column. 1: any."""
    scores: Share = 0.1
    """Farthest that the model's answers may be from those for the evaluation split when the version was pushed, and the
    newest period's from those before: the shares of the classes, and the distribution of the score or the value.
    1: any."""
    columns: dict[str, ColumnBounds] = {}
    """Bounds of single columns: `{body_mass_g: {skew: 0.3, missing: 0.2}}`."""
    ignore: tuple[str, ...] = ()
    """Columns that are not looked at."""
    quality: dict[str, Bounds] = {}
    """Bounds of metrics, where labels have arrived: `{accuracy: {at_least: 0.9, worse_by_at_most: 0.02}}`. The latter
    is against the evaluation of the version when it was pushed."""

    def bound(self, column: str, kind: str) -> float:
        """Return a bound of a column.

        Args:
            column: its name.
            kind: `skew`, `drift`, `missing` or `unseen`.
        """
        own = getattr(self.columns[column], kind) if column in self.columns else None
        found: float = getattr(self, kind) if own is None else own
        return found

    @property
    def named_columns(self) -> Mapping[str, str]:
        """Keys by the name of the column that they have."""
        return {
            **{name: f"monitoring.columns.{name}" for name in self.columns},
            **dict.fromkeys(self.ignore, "monitoring.ignore"),
        }
