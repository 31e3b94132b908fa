"""tf.Transform's analysis of a split as work on blocks, instead of tf.Transform's one large Beam pipeline.

tf.Transform makes a graph of operations of a preprocessing_fn: apply a SavedModel to the data, accumulate, merge, bind
the results as constants, write the next SavedModel. Here those operations are executed with tf.Transform's own
combiners and SavedModels. Each phase that reads the data is one `BlockWork`, executed by threads or Beam. An analyzer
that is unknown here is left to tf.Transform's pipeline (`Unsupported`).
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import (
    analyzer_nodes,
    analyzers,
    annotators,
    nodes,
)
from tensorflow_transform.beam import analysis_graph_builder, beam_nodes
from tensorflow_transform.saved import saved_transform_io_v2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from kubetfx.arrays import Array
from kubetfx.components.data.analysis_graphs import AnalysisGraphs, Binding, PreprocessingFn, Unsupported
from kubetfx.components.data.block_work import BlockWork
from kubetfx.engine.shared_places import folder_of
from kubetfx.models.examples import RowGroup, in_parts, read_ahead
from kubetfx.models.preprocessing import rows_at_a_time
from kubetfx.models.raw_inputs import RawInputs
from kubetfx.storage import folder_here

Tensors = Mapping[str, Any]
Run = Callable[["Phase"], list[Any]]


@dataclass(eq=False)
class _Step:
    """An operation and the steps that its inputs come from."""

    operation: Any
    inputs: tuple["_Output", ...]


@dataclass(frozen=True)
class _Output:
    step: _Step
    index: int


class _Collector(nodes.Visitor):
    """Turns tf.Transform's graph into steps in an executable order."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    def visit(self, operation_def: Any, input_values: tuple[_Output, ...]) -> tuple[_Output, ...]:
        step = _Step(operation_def, input_values)
        self.steps.append(step)
        return tuple(_Output(step, index) for index in range(operation_def.num_outputs))

    def validate_value(self, value: Any) -> None:
        """Accept every value: they are all ours."""


def analyze(
    preprocessing_fn: PreprocessingFn,
    schema: Any,
    *,
    run: Run,
    output: Path,
    temporary: Path,
) -> None:
    """Analyze a split, and write the same files as tf.Transform's `WriteTransformFn` and `WriteMetadata`.

    Args:
        preprocessing_fn: The function from raw to transformed features.
        schema: The schema of the raw features.
        run: Executes a work on the row groups of the split; called once per phase.
        output: folder of the transform graph.
        temporary: A folder for intermediate SavedModels.

    Raises:
        Unsupported: the preprocessing_fn needs an analyzer that is unknown here. Nothing is written.
    """
    specs = schema_utils.schema_as_feature_spec(schema).feature_spec
    graphs = AnalysisGraphs(preprocessing_fn, specs, temporary)
    graph, inputs, outputs = graphs.trace()
    asset_map = annotators.get_asset_annotations(graph)
    annotators.clear_asset_annotations(graph)
    future, _, side_effects = analysis_graph_builder.build(graph, inputs, outputs)
    collector = _Collector()
    traverser = nodes.Traverser(collector)
    final = traverser.visit_value_node(future)
    for node in side_effects:
        traverser.visit_value_node(node)
    found = _Analysis(collector.steps, run, graphs, specs, rows_at_a_time(schema), temporary)
    metadata = graphs.write_last(output / tft.TFTransformOutput.TRANSFORM_FN_DIR, map(found.value, final.step.inputs))
    _publish(metadata, schema=schema, asset_map=asset_map, output=output)


def _publish(metadata: Any, *, schema: Any, asset_map: Mapping[str, str], output: Path) -> None:
    transformed = output / tft.TFTransformOutput.TRANSFORMED_METADATA_DIR
    metadata_io.write_metadata(metadata, str(transformed))
    if asset_map:
        (transformed / tft.TFTransformOutput.ASSET_MAP).write_text(json.dumps(asset_map))
    raw = dataset_metadata.DatasetMetadata(schema=schema)
    metadata_io.write_metadata(raw, str(output / tft.TFTransformOutput.RAW_METADATA_DIR))


@dataclass
class _Analysis:
    """Executes steps, each once."""

    steps: list[_Step]
    run: Run
    graphs: AnalysisGraphs
    specs: Mapping[str, Any]
    max_rows: int | None
    temporary: Path
    _values: dict[_Step, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            if type(step.operation) not in {*_OPERATIONS, *_STREAMS, *_ACCUMULATORS, beam_nodes.CreateSavedModel,
                                            analyzer_nodes.VocabularyOrderAndWrite}:  # fmt: skip
                raise Unsupported(step.operation.label)
            if type(step.operation) in _ACCUMULATORS:
                _accumulator(step)

    def value(self, output: _Output) -> Any:
        if output.step not in self._values:
            self._carry_out(output.step)
        return self._values[output.step][output.index]

    def _carry_out(self, step: _Step) -> None:
        operation = step.operation
        if type(operation) in _ACCUMULATORS:
            self._pass_over_data(_source(step))
            return
        if isinstance(operation, beam_nodes.CreateSavedModel):
            result: Any = self.graphs.write(operation, [self.value(value) for value in step.inputs])
        elif isinstance(operation, analyzer_nodes.VocabularyOrderAndWrite):
            result = _write_vocabulary(operation, self.value(step.inputs[0]), self.temporary)
        else:
            results = _OPERATIONS[type(operation)](operation, [self.value(value) for value in step.inputs])
            self._values[step] = tuple(results) if operation.num_outputs > 1 else (results,)
            return
        self._values[step] = (result,)

    def _pass_over_data(self, source: _Step) -> None:
        """Apply a phase's SavedModel to all rows, and accumulate for every analyzer of the phase at once."""
        wanted = [s for s in self.steps if type(s.operation) in _ACCUMULATORS and _source(s) is source]
        is_first = not source.inputs[0].step.inputs
        accumulators = [_accumulator(step) for step in wanted]
        model = self.value(source.inputs[0])
        phase = Phase(model, self.specs, accumulators, is_first=is_first, max_rows=self.max_rows)
        for step, found in zip(wanted, self.run(phase), strict=True):
            self._values[step] = (found,)


class Phase(BlockWork[RowGroup, list[Any], list[Any], list[Any]]):
    """All analyzers of one pass over the data, with the states of their accumulators."""

    def __init__(
        self,
        saved_model: str,
        specs: Mapping[str, Any],
        accumulators: Sequence["_Accumulator"],
        *,
        is_first: bool,
        max_rows: int | None = None,
    ) -> None:
        """Set what is accumulated.

        Args:
            saved_model: The folder of the SavedModel that contains the results of the earlier phases and is applied to
                the rows.
            specs: How each raw feature is read from the examples, in the form of tf.io.
            accumulators: The accumulators of the analyzers.
            is_first: whether it depends on nothing that a phase before found in the rows.
            max_rows: that the SavedModel is applied to at a time; None: all rows of a row group.
        """
        self.is_first = is_first
        self._saved_model = folder_of(saved_model)
        self._specs = specs
        self._accumulators = accumulators
        self._max_rows = max_rows

    def setup(self) -> None:
        """Load the SavedModel."""
        self._inputs = RawInputs(self._specs)
        self._loader = saved_transform_io_v2.SavedModelLoader(str(folder_here(self._saved_model)))
        self._loader.finalize(set(self._inputs.signature), set(self._loader.structured_outputs))

    def blocks(self, item: RowGroup) -> Iterator[list[Any]]:
        """Yield what each accumulator takes of the rows of a row group, which go through the SavedModel."""
        parts = in_parts(item.read(self._inputs.columns), self._max_rows)
        yield from read_ahead(functools.partial(self._applied, part) for part in parts)

    def _applied(self, rows: pa.RecordBatch) -> list[Any]:
        tensors = self._loader.apply_transform_model(self._inputs.pack(rows))
        return [accumulator.taken(tensors) for accumulator in self._accumulators]

    def create(self) -> list[Any]:
        """Return each accumulator's state of no rows."""
        return [accumulator.create() for accumulator in self._accumulators]

    def add_block(self, state: list[Any], block: list[Any]) -> list[Any]:
        """Hand each accumulator what it takes."""
        return [own.add(*pair) for own, *pair in zip(self._accumulators, state, block, strict=True)]

    def merge(self, first: list[Any], second: list[Any]) -> list[Any]:
        """Merge the states of each accumulator."""
        return [own.merge(*pair) for own, *pair in zip(self._accumulators, first, second, strict=True)]

    def result(self, state: list[Any]) -> list[Any]:
        """Return the inputs of tf.Transform's next operations, in the order of the accumulators."""
        return [own.result(final) for own, final in zip(self._accumulators, state, strict=True)]


def _as_numpy(tensor: Any) -> Any:
    return np.asarray(tensor) if isinstance(tensor, tf.Tensor) else tensor


def _source(step: _Step) -> _Step:
    """Return the application of a SavedModel that a step takes its values from."""
    (output,) = step.inputs
    while isinstance(output.step.operation, beam_nodes.ExtractFromDict):
        (output,) = output.step.inputs
    return output.step


def _accumulator(step: _Step) -> "_Accumulator":
    extraction = step.inputs[0].step.operation
    keys = extraction.keys if isinstance(extraction, beam_nodes.ExtractFromDict) else None
    return _ACCUMULATORS[type(step.operation)](step.operation, keys)


def _from_dict(keys: Any, values: Mapping[str, Any]) -> Any:
    return tuple(values[key] for key in keys) if isinstance(keys, tuple) else values[keys]


class _Accumulator(Protocol):
    def taken(self, tensors: Tensors) -> Any: ...

    def create(self) -> Any: ...

    def add(self, state: Any, taken: Any) -> Any: ...

    def merge(self, first: Any, second: Any) -> Any: ...

    def compact(self, state: Any) -> Any: ...

    def result(self, state: Any) -> Any: ...


class _Combined:
    """One of tf.Transform's combiners."""

    def __init__(self, operation: Any, keys: Any) -> None:
        self._combiner = operation.combiner
        self._keys = keys

    def taken(self, tensors: Tensors) -> Any:
        found = _from_dict(self._keys, tensors)
        return tuple(map(_as_numpy, found)) if isinstance(found, tuple) else _as_numpy(found)

    def create(self) -> Any:
        return self._combiner.create_accumulator()

    def add(self, state: Any, taken: Any) -> Any:
        return self._combiner.add_input(state, taken)

    def merge(self, first: Any, second: Any) -> Any:
        return self._combiner.merge_accumulators([first, second])

    def compact(self, state: Any) -> Any:
        return self._combiner.compact(state)

    def result(self, state: Any) -> Any:
        return state


class _PackedCombined:
    """Several combiners, by label."""

    def __init__(self, operation: Any, keys: Any) -> None:
        self._parts = {one.label: _Combined(one, tuple(one.keys)) for one in operation.combiners}

    def taken(self, tensors: Tensors) -> dict[str, Any]:
        return {label: part.taken(tensors) for label, part in self._parts.items()}

    def create(self) -> dict[str, Any]:
        return {label: part.create() for label, part in self._parts.items()}

    def add(self, state: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
        return {label: part.add(state[label], taken[label]) for label, part in self._parts.items()}

    def merge(self, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
        return {label: part.merge(first[label], second[label]) for label, part in self._parts.items()}

    def compact(self, state: dict[str, Any]) -> dict[str, Any]:
        return {label: part.compact(state[label]) for label, part in self._parts.items()}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        return state


class _Counted:
    """How often each token of a vocabulary occurs."""

    def __init__(self, operation: Any, keys: Any) -> None:
        if operation.vocab_ordering_type != analyzers._VocabOrderingType.FREQUENCY:
            raise Unsupported(operation.label)
        self._keys = keys

    def create(self) -> Counter[Any]:
        return Counter()

    def taken(self, tensors: Tensors) -> dict[Any, int]:
        (values,) = _from_dict(self._keys, tensors)
        different, _, counts = tf.unique_with_counts(tf.reshape(values, [-1]), out_idx=tf.int64)
        return dict(zip(different.numpy().tolist(), counts.numpy().tolist(), strict=True))

    def add(self, state: Counter[Any], taken: dict[Any, int]) -> Counter[Any]:
        state.update(taken)
        return state

    def merge(self, first: Counter[Any], second: Counter[Any]) -> Counter[Any]:
        first.update(second)
        return first

    def compact(self, state: Counter[Any]) -> Counter[Any]:
        return state

    def result(self, state: Counter[Any]) -> list[tuple[Any, int]]:
        return list(state.items())


def _merge(operation: Any, inputs: list[Any]) -> Any:
    combiner = operation.combiner
    return combiner.extract_output(combiner.merge_accumulators(inputs))


def _merge_packed(operation: Any, inputs: list[Any]) -> dict[str, Any]:
    (labelled,) = inputs
    combiners = {combiner.keys[0]: combiner for combiner in operation.combiners}
    return {combiners[key].label: _merge(combiners[key], [accumulator]) for key, accumulator in labelled}


def _prune(operation: Any, inputs: list[Any]) -> list[tuple[int, Any]]:
    """Return (count, token) pairs above the threshold, the most frequent first if their number is limited."""
    if operation.key_fn is not None:
        raise Unsupported(operation.label)
    (counts,) = inputs
    pairs = [pair for pair in counts if pair[0] >= (operation.frequency_threshold or 0)]
    if operation.input_dtype != tf.string.name:
        pairs = [(count, tf.compat.as_bytes(tf.compat.as_str_any(token))) for count, token in pairs]
    if operation.top_k is not None:
        pairs = sorted(pairs, reverse=True)[: operation.top_k]
    return pairs


def _write_vocabulary(operation: Any, pairs: list[tuple[int, bytes]], folder: Path) -> Array:
    """Write the vocabulary, in tf.Transform's order by falling frequency or by hash, and return its file."""
    if operation.fingerprint_shuffle:
        ordered = sorted(pairs, key=lambda pair: hashlib.sha1(pair[1]).digest())
    else:
        ordered = sorted(pairs, reverse=True)
    ordered = ordered or [analyzers.get_empy_vocabulary_dummy_value(operation.input_dtype)]
    if operation.store_frequency:
        lines = [tf.compat.as_bytes(f"{count} {tf.compat.as_str_any(token)}") for count, token in ordered]
    else:
        lines = [tf.compat.as_bytes(token) for _, token in ordered]
    path = folder / operation.vocab_filename
    if operation.file_format == "tfrecord_gzip":
        path = folder / f"{operation.vocab_filename}.tfrecord.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for line in lines:
                writer.write(line)
    else:
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    return np.array(str(path))


def _identity(operation: Any, inputs: list[Any]) -> Any:
    (outputs,) = inputs
    if len(outputs) != operation.num_outputs:
        raise ValueError(f"{operation.label} has {operation.num_outputs} outputs. Received: {len(outputs)}.")
    return outputs[0] if operation.num_outputs == 1 else outputs


_OPERATIONS: Mapping[type, Callable[[Any, list[Any]], Any]] = {
    beam_nodes.ExtractFromDict: lambda operation, inputs: _from_dict(operation.keys, inputs[0]),
    beam_nodes.CreateTensorBinding: lambda operation, inputs: Binding(
        operation.tensor_name, inputs[0], operation.dtype_enum
    ),
    beam_nodes.Flatten: lambda _, inputs: [entry for entries in inputs for entry in entries],
    analyzer_nodes.AddKey: lambda operation, inputs: [(operation.key, inputs[0])],
    analyzer_nodes.CacheableCombineMerge: _merge,
    analyzer_nodes.PackedCombineMerge: _merge_packed,
    analyzer_nodes.ExtractCombineMergeOutputs: _identity,
    analyzer_nodes.ExtractPackedCombineMergeOutputs: _identity,
    analyzer_nodes.VocabularyMerge: lambda _, inputs: [(count, token) for token, count in inputs[0]],
    analyzer_nodes.VocabularyCount: lambda _, inputs: np.int64(max(len(inputs[0]), 1)),
    analyzer_nodes.VocabularyPrune: _prune,
}
_STREAMS = (beam_nodes.ExtractInputForSavedModel, beam_nodes.ApplySavedModel)
_ACCUMULATORS: Mapping[type, Callable[[Any, Any], _Accumulator]] = {
    analyzer_nodes.CacheableCombineAccumulate: _Combined,
    analyzer_nodes.PackedCombineAccumulate: _PackedCombined,
    analyzer_nodes.VocabularyAccumulate: _Counted,
}
