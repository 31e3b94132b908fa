"""The graphs of an analysis: a preprocessing_fn with the results so far as constants.

The graphs of the phases take blocks as packed by `RawInputs`, one tensor per type: only the last graph, the result, has
an input for each column, since there may be thousands.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_transform import analyzer_nodes, graph_context, graph_tools, impl_helper, schema_inference
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import dataset_metadata

from kubetfx.models.raw_inputs import Packed, RawInputs

PreprocessingFn = Callable[[Any], Any]


class Unsupported(Exception):  # noqa: N818 - not an error: tf.Transform's pipeline does the work then
    """An analyzer is unknown here."""


@dataclass(frozen=True)
class Binding:
    """A value that replaces a tensor."""

    tensor_name: str
    value: Any
    dtype: int


class AnalysisGraphs:
    """Traces and writes a preprocessing_fn, once for each phase."""

    def __init__(self, preprocessing_fn: PreprocessingFn, specs: Mapping[str, Any], temporary: Path) -> None:
        """Set what is traced.

        Args:
            preprocessing_fn: The function from raw to transformed features.
            specs: How each raw feature is read from the examples, in the form of tf.io.
            temporary: A folder for the SavedModels of phases and the files of vocabularies.
        """
        self._inputs = RawInputs(specs)
        self._signature = {name: _without_name(spec) for name, spec in self._inputs.signature.items()}
        self._preprocessing_fn = preprocessing_fn
        self._type_specs = {name: _type_spec(spec) for name, spec in specs.items()}
        self._temporary = temporary
        self._count = 0

    def trace(self) -> tuple[tf.Graph, Mapping[str, Any], Mapping[str, Any]]:
        """Trace it without any results. The analyzers of all later graphs are compared with these.

        Returns:
            The graph, its inputs and its outputs.
        """
        graph, inputs, outputs = impl_helper.trace_preprocessing_function(
            self._of_packed, self._signature, False, str(self._temporary)
        )
        self._structured_inputs = inputs
        self._fingerprint = graph_tools.get_analyzers_fingerprint(graph, inputs)
        return graph, inputs, outputs

    def write(self, operation: Any, bindings: Iterable[Binding]) -> str:
        """Write the SavedModel of a phase.

        Args:
            operation: tf.Transform's operation, which names the input tensors of the phase's analyzers.
            bindings: The results of the earlier phases.

        Returns:
            Its folder.
        """
        self._count += 1
        path = str(self._temporary / f"saved_model_{self._count}")
        signature = operation.output_signature
        is_of_tensors = all(isinstance(value, tf.Tensor) for value in signature.values())
        impl_helper.trace_and_write_v2_saved_model(
            path,
            self._of_packed,
            self._signature,
            str(self._temporary),
            self._fingerprint,
            _replacements(bindings),
            {key: value.name for key, value in signature.items()} if is_of_tensors else {},
            None,
        )
        return path

    def write_last(self, path: Path, bindings: Iterable[Binding]) -> dataset_metadata.DatasetMetadata:
        """Write the SavedModel that contains all results.

        Args:
            path: The folder, which appears atomically.
            bindings: The results of all phases.

        Returns:
            The schema of its features.

        Raises:
            Unsupported: an analyzer has another name in this graph than in those of the phases.
        """
        replacements = _replacements(bindings)
        context = self._context(replacements)
        traced = impl_helper.get_traced_transform_fn(self._preprocessing_fn, self._type_specs, context)
        partial = self._temporary / "transform_fn"
        function = saved_transform_io_v2.write_v2_saved_model(
            context.module_to_export, traced, "transform_fn", str(partial)
        )
        if unknown := function.graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS):
            raise Unsupported(f"{unknown[0]}, whose name changes each time")
        metadata_fn = schema_inference.get_traced_metadata_fn(
            self._of_packed, self._structured_inputs, self._context(replacements), True
        )
        schema = schema_inference.infer_feature_schema_v2(function.structured_outputs, metadata_fn, True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, path)
        return dataset_metadata.DatasetMetadata(schema=schema)

    def _of_packed(self, packed: Packed) -> Any:
        """Return the preprocessing_fn.

        Its operations have the same names as in a graph with one input per column, whose inputs are called `inputs_`
        and so on too.
        """
        with tf.name_scope("inputs_unpacked"):
            columns = self._inputs.unpack(packed)
        return self._preprocessing_fn(columns)

    def _context(self, replacements: Mapping[str, tf.Tensor] | None) -> graph_context.TFGraphContext:
        return graph_context.TFGraphContext(tf.Module(), str(self._temporary), replacements)


def _replacements(bindings: Iterable[Binding]) -> dict[str, tf.Tensor] | None:
    """Return constants by the name of the tensor that they replace."""
    return {b.tensor_name: tf.constant(b.value, tf.dtypes.as_dtype(b.dtype)) for b in bindings} or None


def _without_name(spec: tf.TypeSpec) -> tf.TypeSpec:
    return tf.TensorSpec(spec.shape, spec.dtype) if isinstance(spec, tf.TensorSpec) else spec


def _type_spec(spec: Any) -> tf.TypeSpec:
    if isinstance(spec, tf.io.FixedLenFeature):
        return tf.TensorSpec([None, *spec.shape], spec.dtype)
    return tf.SparseTensorSpec([None, None], spec.dtype)
