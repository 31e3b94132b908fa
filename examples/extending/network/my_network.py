"""A network of one's own over what kubetfx makes of the columns: each layer adds to what it is given (He et al., 2015).

`preprocessing_fn` could be one's own as well; here it is kubetfx's.
"""

import keras

from kubetfx.models.network import encode, preprocessing_fn

__all__ = ["build_model", "preprocessing_fn"]


def build_model(transform_output, *, model, features, num_outputs):
    """From features to logits, or to the standardised number."""
    encodings = encode(transform_output, model=model, features=features)
    hidden = keras.layers.Concatenate()([encoding.vector for encoding in encodings])
    hidden = keras.layers.Dense(model.hidden_units[0])(hidden)
    for units in model.hidden_units:
        inner = keras.layers.Dense(units, activation="gelu")(keras.layers.LayerNormalization()(hidden))
        hidden = keras.layers.Add()([hidden, keras.layers.Dense(hidden.shape[-1])(inner)])
    inputs = {name: tensor for encoding in encodings for name, tensor in encoding.inputs.items()}
    return keras.Model(inputs, keras.layers.Dense(num_outputs)(hidden), name="residual")
