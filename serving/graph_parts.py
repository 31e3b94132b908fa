"""Parts of a SavedModel's graph: what some of its signatures need, and a copy without functions."""

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.grappler import tf_optimizer

_INIT_SIGNATURE = "__saved_model_init_op"
_MAIN_OPS = ("saved_model_main_op", "legacy_init_op")
"""Collections of what initialises a model's tables: tensorflow/python/saved_model/constants.py."""


def keep_signatures(meta_graph: meta_graph_pb2.MetaGraphDef, names: Sequence[str]) -> None:
    """Remove from a graph what neither some of its signatures need nor the loader.

    Args:
        meta_graph: as it was read; it is changed.
        names: The names of the signatures to keep.
    """
    signatures: Any = meta_graph.signature_def
    collections: Any = meta_graph.collection_def
    kept = [info.name for name in names for info in signatures[name].inputs.values()]
    kept += [info.name for name in names for info in signatures[name].outputs.values()]
    if _INIT_SIGNATURE in signatures:
        kept += [info.name for info in signatures[_INIT_SIGNATURE].outputs.values()]
    for key in list(collections):
        if key in _MAIN_OPS:
            kept += collections[key].node_list.value
        else:  # names nodes that may be gone; only training needs it
            del collections[key]
    if meta_graph.HasField("saver_def"):
        kept += [meta_graph.saver_def.restore_op_name, meta_graph.saver_def.filename_tensor_name]
    kept += [asset.tensor_info.name for asset in meta_graph.asset_file_def]
    meta_graph.graph_def.CopyFrom(_part_of(meta_graph.graph_def, kept))


def inlined(meta_graph: meta_graph_pb2.MetaGraphDef, signature: meta_graph_pb2.SignatureDef) -> Any:
    """Make a graph without any function call, by TensorFlow's own optimizer.

    Args:
        meta_graph: what was loaded.
        signature: one of its signatures.

    Returns:
        The GraphDef of what the signature needs, with its tensors under their names.
    """
    names = [info.name for info in (*signature.inputs.values(), *signature.outputs.values())]
    copy = meta_graph_pb2.MetaGraphDef()
    copy.meta_info_def.CopyFrom(meta_graph.meta_info_def)
    copy.graph_def.CopyFrom(_part_of(meta_graph.graph_def, names))
    copy.collection_def["train_op"].node_list.value.extend(names)  # what the optimizer has to keep
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1  # small graphs too
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, copy)


def _part_of(graph_def: Any, kept: Sequence[str]) -> Any:
    """Return the part of a graph that some of its nodes need, and the functions that are called in it."""
    nodes = sorted({name.split(":")[0].removeprefix("^") for name in kept if name})
    part = tf.compat.v1.graph_util.extract_sub_graph(graph_def, nodes)
    functions = {function.signature.name: function for function in graph_def.library.function}
    needed: set[str] = set()
    pending = [part.node]
    while pending:
        for node in pending.pop():
            names = {node.op, *(name for value in node.attr.values() for name in _functions_in(value))}
            for name in names & functions.keys() - needed:
                needed.add(name)
                pending.append(functions[name].node_def)
    for function in list(part.library.function):
        if function.signature.name not in needed:
            part.library.function.remove(function)
    return part


def _functions_in(value: Any) -> Iterator[str]:
    if value.HasField("func"):
        yield value.func.name
    yield from (function.name for function in value.list.func)
