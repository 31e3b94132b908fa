"""The sections `report` and `card`: what the report of a run shows, and facts about a model that only people know."""

from pydantic import Field

from kubetfx.config.section import Section


class CardConfig(Section):
    """Facts about a model that only people know, for its model card. The measured facts are added."""

    purpose: str | None = None
    """What the model is for, and who uses its predictions."""
    owner: str | None = None
    """Who is responsible for it: a team, a person, an address."""
    limits: tuple[str, ...] = ()
    """Where it must not be used, and its weaknesses."""
    data_source: str | None = None
    """The origin of the data, and its terms of use."""
    ethics: str | None = None
    """Who could be harmed by a wrong prediction, and what is done about it."""
    license: str | None = None
    """License under which the model may be used."""
    contact: str | None = None
    """Where questions and complaints go."""


class ReportConfig(Section):
    """What the report shows. Nothing here stops a run, and changing it does not retrain the model."""

    drift_threshold: float = Field(0.1, gt=0, le=1)
    """A column is marked if its training rows are at least this far from those of the previous run: L-infinity distance
    for text, Jensen-Shannon divergence for numbers, as in TFDV."""
    skew_threshold: float = Field(0.1, gt=0, le=1)
    """The same limit for the distance of the evaluation rows from the training rows."""
    rows: int = Field(20_000, ge=100)
    """Maximum number of rows of the evaluation split, drawn with training.seed, from which curves, intervals and
    importances are computed. The metrics of the verdict are computed on all rows.
    """
