"""What a transformer is made of: its sizes, and the names and shapes of its weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What a transformer is made of."""

    vocabulary: int
    """Tokens."""
    positions: int
    """Tokens of a text at most."""
    layers: int
    heads: int
    width: int
    """Length of the vector of a token."""
    inner: int
    """Units of the hidden layer in each layer."""
    epsilon: float = 1e-12
    """Added to variances."""
    activation: str = "gelu"
    """Activation of the hidden layer: `gelu`, `gelu_tanh` or `relu`."""

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each weight by its name; those of layer 3 begin with `layer_3_`."""
        width: tuple[int, ...] = (self.width,)
        found: dict[str, tuple[int, ...]] = {
            "words": (self.vocabulary, self.width),
            "positions": (self.positions, self.width),
        }
        found |= {"norm_gamma": width, "norm_beta": width}
        square, in_, out = (self.width, self.width), (self.width, self.inner), (self.inner, self.width)
        for layer in range(self.layers):
            for name, kernel in {
                "query": square, "key": square, "value": square, "attended": square, "inner": in_, "outer": out
            }.items():  # fmt: skip
                found |= {f"layer_{layer}_{name}_kernel": kernel, f"layer_{layer}_{name}_bias": kernel[1:]}
            for name in ("attended_norm", "outer_norm"):
                found |= {f"layer_{layer}_{name}_gamma": width, f"layer_{layer}_{name}_beta": width}
        return found
