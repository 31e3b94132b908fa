"""Answers about the rows of spans, kept in the workspace: the served model was the candidate of an earlier run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubetfx.arrays import Array
from kubetfx.components.data.span_shards import KnownShards
from kubetfx.components.data.span_store import SpanStore
from kubetfx.models.examples import RowGroup

Answers = tuple[Array, Array]
"""Labels and predictions of the rows of a row group."""


@dataclass(frozen=True)
class KeptAnswers:
    """Answers of the models of an evaluation, by row group; those of other models are forgotten."""

    shards: KnownShards
    store: SpanStore
    digests: Mapping[str, str]
    """Digest of each model by its name in the evaluation."""

    @classmethod
    def beside(
        cls, output: str, *, examples: Path, saved_models: Mapping[str, Path], digest: Callable[[Path], str]
    ) -> "KeptAnswers | None":
        """Return the answers that a workspace keeps; None if there are no spans, or no workspace.

        Args:
            output: URI of the artifact that the evaluation makes.
            examples: folder of the examples.
            saved_models: folders of the models by name.
            digest: returns the digest of a model, which is the same before and after its push.
        """
        shards, store = KnownShards(examples), SpanStore.beside(output)
        if not shards or store is None:
            return None
        return cls(shards, store, {name: digest(path) for name, path in saved_models.items()})

    def of(self, group: RowGroup) -> dict[str, Answers]:
        """Return the answers that are known, by the name of the model.

        Args:
            group: of the examples.
        """
        kept = self.store.read(self._place(group)) or {}
        return {name: kept[digest] for name, digest in self.digests.items() if digest in kept}

    def keep(self, group: RowGroup, answers: Mapping[str, Answers]) -> None:
        """Keep the answers of all models for the next run, in which one of them may be the served one.

        Args:
            group: of the examples.
            answers: by the name of the model.
        """
        self.store.write(self._place(group), {self.digests[name]: own for name, own in answers.items()})

    def _place(self, group: RowGroup) -> Path:
        span, shard = self.shards.of(group)
        return self.store.place(span, "answers", shard, group.number)
