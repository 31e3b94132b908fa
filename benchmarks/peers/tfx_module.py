"""The module file of benchmarks/peers/tfx_taught.py: preprocessing_fn and run_fn as TFX's guides have them.

After tfx/examples/penguin/penguin_utils_base.py, penguin_utils_keras.py and the taxi template: a scaler a numeric
column, a vocabulary a category, missing cells filled in, tf.data through the data accessor, a serving signature over
tf.Example. With Keras 3, `tf.saved_model.save` takes the place of `model.save(..., save_format="tf")`, which is gone.
"""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx_bsl.public import tfxio

LABEL = "label_xf"


def _transformed(name: str) -> str:
    return name + "_xf"


def _fill_in_missing(x: Any) -> tf.Tensor:
    if not isinstance(x, tf.sparse.SparseTensor):
        return tf.squeeze(x, axis=1)
    default = "" if x.dtype == tf.string else 0
    dense = tf.sparse.to_dense(tf.SparseTensor(x.indices, x.values, [x.dense_shape[0], 1]), default)
    return tf.squeeze(dense, axis=1)


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Turn raw columns into features."""
    work = custom_config["work"]
    outputs = {}
    for name in work["numeric"]:
        outputs[_transformed(name)] = tft.scale_to_z_score(tf.cast(_fill_in_missing(inputs[name]), tf.float32))
    for name in work["categorical"]:
        cell = _fill_in_missing(inputs[name])
        text = cell if cell.dtype == tf.string else tf.strings.as_string(cell)
        outputs[_transformed(name)] = tft.compute_and_apply_vocabulary(text, num_oov_buckets=1, vocab_filename=name)
    label = _fill_in_missing(inputs[work["label"]])
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(work["classes"]), tf.range(len(work["classes"]), dtype=tf.int64)
        ),
        default_value=-1,
    )
    outputs[LABEL] = table.lookup(label if label.dtype == tf.string else tf.strings.as_string(label))
    return outputs


def _input_fn(
    file_pattern: list[str], data_accessor: Any, tf_transform_output: tft.TFTransformOutput, batch_size: int
) -> tf.data.Dataset:
    return data_accessor.tf_dataset_factory(
        file_pattern,
        tfxio.TensorFlowDatasetOptions(batch_size=batch_size, label_key=LABEL),
        tf_transform_output.transformed_metadata.schema,
    ).repeat()


def _build_keras_model(work: dict[str, Any], tf_transform_output: tft.TFTransformOutput) -> keras.Model:
    inputs: dict[str, Any] = {}
    parts = []
    for name in work["numeric"]:
        key = _transformed(name)
        inputs[key] = keras.layers.Input(shape=(1,), name=key)
        parts.append(inputs[key])
    for name in work["categorical"]:
        key = _transformed(name)
        inputs[key] = keras.layers.Input(shape=(1,), name=key, dtype=tf.int64)
        size = tf_transform_output.vocabulary_size_by_name(name) + 1
        parts.append(keras.layers.Flatten()(keras.layers.Embedding(size, work["embedding_size"])(inputs[key])))
    d = keras.layers.concatenate(parts)
    for units in work["hidden_units"]:
        d = keras.layers.Dense(units, activation="relu")(d)
        if work["dropout"]:
            d = keras.layers.Dropout(work["dropout"])(d)
    outputs = keras.layers.Dense(len(work["classes"]), activation="softmax", name="probabilities")(d)
    model = keras.Model(inputs=inputs, outputs=outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(work["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


def run_fn(fn_args: tfx.components.FnArgs) -> None:
    """Train and export."""
    work = fn_args.custom_config["work"]
    batch_size = work["batch_size"]
    tf_transform_output = tft.TFTransformOutput(fn_args.transform_output)
    train = _input_fn(fn_args.train_files, fn_args.data_accessor, tf_transform_output, batch_size)
    validation = _input_fn(fn_args.eval_files, fn_args.data_accessor, tf_transform_output, batch_size)
    keras.utils.set_random_seed(0)
    model = _build_keras_model(work, tf_transform_output)
    model.fit(
        train,
        epochs=work["epochs"],
        steps_per_epoch=fn_args.train_steps // work["epochs"],
        validation_data=validation,
        validation_steps=fn_args.eval_steps,
        verbose=2,
    )
    tft_layer = tf_transform_output.transform_features_layer()
    raw_spec = tf_transform_output.raw_feature_spec()
    serving_spec = {name: spec for name, spec in raw_spec.items() if name != work["label"]}
    examples = [tf.TensorSpec(shape=[None], dtype=tf.string, name="examples")]

    @tf.function(input_signature=examples)
    def serve_tf_examples_fn(serialized_tf_examples: tf.Tensor) -> dict[str, tf.Tensor]:
        transformed = tft_layer(tf.io.parse_example(serialized_tf_examples, serving_spec))
        return {"outputs": model(transformed)}

    @tf.function(input_signature=examples)
    def transform_features_fn(serialized_tf_examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features: dict[str, tf.Tensor] = tft_layer(tf.io.parse_example(serialized_tf_examples, raw_spec))
        return features

    model.tft_layer = tft_layer
    signatures = {"serving_default": serve_tf_examples_fn, "transform_features": transform_features_fn}
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures=signatures)
