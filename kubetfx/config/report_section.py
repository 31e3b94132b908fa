"""The sections `report` and `card`: what the report of a run shows, and what only people know about a model."""

from pydantic import Field

from kubetfx.config.section import Section


class CardConfig(Section):
    """What only people know about a model, for its model card. The measured facts are added to it."""

    purpose: str | None = None
    """What the model is for, and who uses its predictions."""
    owner: str | None = None
    """Who answers for it: a team, a person, an address."""
    limits: tuple[str, ...] = ()
    """Where it must not be used, and what it does badly."""
    data_source: str | None = None
    """Where the table comes from, and under which terms."""
    ethics: str | None = None
    """Who could be harmed by a wrong prediction, and what is done about it."""
    license: str | None = None
    """License under which the model may be used."""
    contact: str | None = None
    """Where questions and complaints go."""


class ReportConfig(Section):
    """What the report shows. Nothing here stops a run, and a change of it trains nothing again."""

    drift_threshold: float = Field(0.1, gt=0, le=1)
    """A column is marked if its training rows are at least so far from those of the previous run: L-infinity distance
    for text, Jensen-Shannon divergence for numbers, as in TFDV."""
    skew_threshold: float = Field(0.1, gt=0, le=1)
    """The same limit for the distance of the evaluation rows from the training rows."""
    rows: int = Field(20_000, ge=100)
    """Rows of the evaluation split at most, drawn with training.seed, that curves, intervals and importances are
    computed on. The metrics of the verdict are computed on all rows."""
