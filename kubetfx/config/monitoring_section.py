"""The section `monitoring`: which requests are examined, and how far they may drift from the training rows."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from kubetfx.config.durations import Duration
from kubetfx.config.evaluation_section import Bounds
from kubetfx.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class ColumnBounds(Section):
    """Bounds of one column. A bound that is not given here is that of `monitoring` for all columns."""

    skew: Share | None = None
    """Largest distance of the requests from the training rows: L-infinity distance for text, Jensen-Shannon divergence
    for numbers, as in TFDV. 1: no bound.
    """
    drift: Share | None = None
    """Largest distance of the newest period from the earlier ones, by the same measures. 1: no bound."""
    missing: Share | None = None
    """Largest increase of the share of missing cells compared with the training rows. 1: any."""
    unseen: Share | None = None
    """Largest share of rows with a category that is not in the training rows. 1: any."""
    scripts: Share | None = None
    """Largest increase, over all scripts, of their share of the letters of a text. 1: no bound."""
    unknown_words: Share | None = None
    """Largest increase of the share of unknown words of a text, compared with the expected one. 1: no bound."""
    strange_texts: Share | None = None
    """Largest increase of the share of texts in another language, or in none. 1: no bound."""


class MonitoringConfig(Section):
    """What `kubetfx monitor` checks in a log of requests; it exits with code 3 if a bound is exceeded.

    Changing this section does not retrain the model.
    """

    requests: str | None = None
    """Folder of the log, on this machine or in a bucket: the argument of `kubetfx serve --log-requests`."""
    last: Duration | None = None
    """Only requests within this time before the newest one, for example 7d. None: all requests."""
    period: Duration = "1d"
    """Length of a period for quality over time and for drift, which compares the newest period with the earlier ones.
    Periods end at the newest request.
    """
    min_rows: int = Field(300, ge=1)
    """Minimum number of rows for a judgement. Fewer rows are shown but not judged, since distances between few rows are
    mostly chance.
    """
    skew: Share = 0.1
    """Largest distance of the requests from the training rows, in each column: L-infinity distance for text,
    Jensen-Shannon divergence for numbers, as in TFDV. 1: no bound."""
    drift: Share = 0.1
    """Largest distance of the newest period from the earlier ones, in each column. 1: any."""
    missing: Share = 0.05
    """Largest increase of the share of missing cells compared with the training rows, in each column. 1: any."""
    unseen: Share = 0.01
    """Largest share of rows with a category that is not in the training rows, in each column. 1: any."""
    scripts: Share = 0.1
    """Largest increase, over all scripts, of their share of the letters, in each column of text. 1: no bound."""
    unknown_words: Share = 0.15
    """Largest increase of the share of words that no training row has, in each column of text. The expected share is
    that of the words of a training row that no other training row has; from half of them on, nothing is judged. 1: no
    bound.
    """
    strange_texts: Share = 0.02
    """Largest increase of the share of strange texts, in each column of text: of five or more words of which four
    fifths are unknown, or of the same words again and again. Fewer than 5 strange texts are not judged, nor are any
    where half of the words are expected to be unknown. 1: no bound.
    """
    scores: Share = 0.1
    """Largest distance of the model's answers from those for the evaluation split when the version was pushed, and of
    the newest period's answers from the earlier ones: in the shares of the classes, and in the distribution of the
    score or the value. 1: no bound.
    """
    columns: dict[str, ColumnBounds] = {}
    """Bounds of single columns: `{body_mass_g: {skew: 0.3, missing: 0.2}}`."""
    ignore: tuple[str, ...] = ()
    """Columns that are ignored."""
    quality: dict[str, Bounds] = {}
    """Bounds of metrics for requests whose labels have arrived: `{accuracy: {at_least: 0.9, worse_by_at_most: 0.02}}`.
    The latter compares with the evaluation of the version when it was pushed.
    """

    def bound(self, column: str, kind: str) -> float:
        """Return a bound of a column.

        Args:
            column: its name.
            kind: the name of the bound.
        """
        own = getattr(self.columns[column], kind) if column in self.columns else None
        found: float = getattr(self, kind) if own is None else own
        return found

    @property
    def named_columns(self) -> Mapping[str, str]:
        """The keys that name columns, by column."""
        return {
            **{name: f"monitoring.columns.{name}" for name in self.columns},
            **dict.fromkeys(self.ignore, "monitoring.ignore"),
        }
