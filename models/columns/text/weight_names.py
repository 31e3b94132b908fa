"""What others call the weights of a transformer, by the names of `models/columns/text/transformer_shape.py`.

Hugging Face has kernels the other way round, (units, inputs). Both have vectors of two kinds of segments beside those
of positions; a text is the first segment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kubetfx.models.columns.text.transformer_shape import Shape


@dataclass(frozen=True)
class WeightNames:
    """Names of one kind of model."""

    words: str
    positions: str
    segments: str | None
    """None: it has none."""
    norm: str
    layer: str
    """Beginning of the names of a layer; `{layer}` stands for its number."""
    parts: Mapping[str, str]
    """What a layer has."""
    kernel: str = ".weight"
    """Ends the name of a kernel."""
    bias: str = ".bias"
    gamma: str = ".weight"
    beta: str = ".bias"

    def by_name(self, shape: Shape) -> Iterator[tuple[str, str]]:
        """Yield the name in kubetfx and the name in the published file of each weight except that of segments.

        Args:
            shape: of the transformer.
        """
        yield from {"words": self.words, "positions": self.positions}.items()
        yield from self._of("norm", self.norm)
        for layer in range(shape.layers):
            begins = self.layer.format(layer=layer, suffix=f"_{layer}" if layer else "")
            for part, name in self.parts.items():
                yield from self._of(f"layer_{layer}_{part}", f"{begins}{name}")

    def _of(self, name: str, other: str) -> Iterator[tuple[str, str]]:
        if name.endswith("norm"):
            yield f"{name}_gamma", f"{other}{self.gamma}"
            yield f"{name}_beta", f"{other}{self.beta}"
        else:
            yield f"{name}_kernel", f"{other}{self.kernel}"
            yield f"{name}_bias", f"{other}{self.bias}"


_BERT = WeightNames(
    words="embeddings.word_embeddings.weight",
    positions="embeddings.position_embeddings.weight",
    segments="embeddings.token_type_embeddings.weight",
    norm="embeddings.LayerNorm",
    layer="encoder.layer.{layer}.",
    parts={
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "attended_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "outer_norm": "output.LayerNorm",
    },
)
_DISTILBERT = WeightNames(
    words="embeddings.word_embeddings.weight",
    positions="embeddings.position_embeddings.weight",
    segments=None,
    norm="embeddings.LayerNorm",
    layer="transformer.layer.{layer}.",
    parts={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attended": "attention.out_lin",
        "attended_norm": "sa_layer_norm",
        "inner": "ffn.lin1",
        "outer": "ffn.lin2",
        "outer_norm": "output_layer_norm",
    },
)
HUGGING_FACE = {"bert": _BERT, "distilbert": _DISTILBERT, "roberta": _BERT}
"""By `model_type` of config.json."""


def _keras_hub(words: str, positions: str, segments: str | None = None) -> WeightNames:
    return WeightNames(
        words=f"layers/{words}/vars/0",
        positions=f"layers/{positions}/vars/0",
        segments=segments and f"layers/{segments}/vars/0",
        norm="layers/layer_normalization",
        layer="layers/transformer_encoder{suffix}/",
        parts={
            "query": "_self_attention_layer/query_dense",
            "key": "_self_attention_layer/key_dense",
            "value": "_self_attention_layer/value_dense",
            "attended": "_self_attention_layer/output_dense",
            "attended_norm": "_self_attention_layer_norm",
            "inner": "_feedforward_intermediate_dense",
            "outer": "_feedforward_output_dense",
            "outer_norm": "_feedforward_layer_norm",
        },
        kernel="/vars/0",
        bias="/vars/1",
        gamma="/vars/0",
        beta="/vars/1",
    )


_TOGETHER = "token_and_position_embedding"
KERAS_HUB = {
    "BertBackbone": _keras_hub("reversible_embedding", "position_embedding", "embedding"),
    "DistilBertBackbone": _keras_hub(f"{_TOGETHER}/token_embedding", f"{_TOGETHER}/position_embedding"),
    "RobertaBackbone": _keras_hub(f"{_TOGETHER}/token_embedding", f"{_TOGETHER}/position_embedding"),
}
"""By `class_name` of config.json."""
