"""An ensemble of LightGBM's as tables, in which models/forest.py looks rows up: float32 cuts and positions.

The values of a feature are cut into bins at the thresholds of the whole ensemble. A test of a node (`x > 0.5`, or `x is
3, 4 or 7`) is the list of runs of bins that pass it, so numbers, categories and missing cells are one thing.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kubetfx.arrays import Array

MAX_PASSES = 2**27
"""Bits of tests and bins that are kept, at most: 16 MiB."""
WORD_BITS = 32
Ints = npt.NDArray[np.integer]
Runs = tuple[tuple[int, int], ...]
"""What passes a test: bins from the first number to before the second."""


@dataclass(frozen=True)
class Tree:
    """A tree as LightGBM writes it: a child below 0 is the leaf `~child`."""

    features: Ints
    """(nodes,) the feature that each node tests."""
    thresholds: Array
    """(nodes,) float64; of a category the index of its set."""
    decisions: Ints
    """(nodes,) bits: 1 a set of categories, 2 a missing cell goes left, 12 how a missing cell is recognized."""
    left: Ints
    right: Ints
    leaves: Array
    """(leaves,) float64."""
    sets: Sequence[Ints]
    """Categories that go left."""


@dataclass(frozen=True)
class ForestTables:
    """The tables of an ensemble."""

    features: Ints
    """(columns,) the feature of each column: those that a tree asks for."""
    cuts: Array
    """(columns, most cuts) float32 in ascending order, the first minus infinity, filled up with infinity. A value is
    in the bin whose number is how many cuts are below it; a missing cell, minus infinity, in bin 0."""
    first_bins: Ints
    """(columns,) number of each column's first bin among those of all."""
    num_bins: int
    run_after: Ints
    run_until: Ints
    """(runs,) bins before a run, and bins before its end."""
    run_test: Ints
    """(runs,) the test that each is of, in ascending order."""
    test_column: Ints
    """(tests,) the column that each test looks at."""
    test_bit: Ints
    """(tests,) where the bits of each test begin in `passes`, one for each bin of its column."""
    passes: Ints
    """(words,) whether a bin passes a test, in 32 bits each, the lowest first; none where they are very many."""
    level_bounds: Ints
    """(levels + 1,) where the inner nodes of each level begin."""
    node_row: Ints
    """(inner nodes,) position in its level, where a level has the two children of each node above: who passes its test,
    and who does not."""
    node_test: Ints
    """(inner nodes,) the test of each node."""
    roots: Ints
    """(trees,) where each tree begins: the number of an inner node, or the number of inner nodes and the position of a
    leaf in `values`."""
    children: Ints
    """(2, inner nodes) where rows go from each node: those that pass its test, and the others."""
    bit_row: Ints
    """(bits,) for each set bit of a leaf's number, the position of the leaf in all levels."""
    bit_plane: Ints
    """(bits,) the plane of each such bit: number of the tree * planes + number of the bit. In ascending order."""
    planes: int
    """Bits of a leaf's number."""
    values: Array
    """(trees * 2 ** planes,) float64: the value of each leaf."""
    num_trees: int


def read_trees(text: str) -> list[Tree]:
    """Read the trees of a model.

    Args:
        text: The text of LightGBM's `Booster.model_to_string`.

    Returns:
        The trees in the order of boosting; with several classes, one tree for each class in turn.
    """
    blocks = text.split("\nend of trees", maxsplit=1)[0].split("\nTree=")[1:]
    return [_read_tree(dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)) for block in blocks]


def _read_tree(entries: dict[str, str]) -> Tree:
    def numbers(key: str, dtype: type) -> Array:
        return np.array(entries.get(key, "").split(), dtype)

    words = numbers("cat_threshold", np.uint32)
    sets = [_members(words[start:end]) for start, end in itertools.pairwise(numbers("cat_boundaries", int))]
    return Tree(
        numbers("split_feature", int),
        numbers("threshold", float),
        numbers("decision_type", int),
        numbers("left_child", int),
        numbers("right_child", int),
        numbers("leaf_value", float),
        sets,
    )


def _members(words: Array) -> Ints:
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))


class _Bins:
    """The cuts of all trees, and the runs of bins that pass a test."""

    def __init__(self, trees: Iterable[Tree]) -> None:
        cuts: dict[int, set[float]] = {0: {-np.inf}}  # there is one, also where no tree asks for any
        for tree in trees:
            for node, feature in enumerate(tree.features.tolist()):
                cuts.setdefault(feature, {-np.inf}).update(itertools.chain(*_intervals(tree, node)))
        self.cuts = {feature: sorted(cuts[feature] - {np.inf}) for feature in sorted(cuts)}
        sizes = [len(cuts) + 1 for cuts in self.cuts.values()]
        self.num_bins = sum(sizes)
        self.columns = {feature: column for column, feature in enumerate(self.cuts)}
        self._sizes = np.array(sizes)
        self.first = dict(zip(self.cuts, itertools.accumulate(sizes, initial=0), strict=False))
        self._bins_before = {  # what is not above a cut
            feature: {cut: first + number for number, cut in enumerate([*self.cuts[feature], np.inf], start=1)}
            for feature, first in self.first.items()
        }

    def runs(self, tree: Tree, node: int) -> Runs:
        """Return the runs of bins that go right at a number, or left at a set of categories."""
        feature = int(tree.features[node])
        before, first = self._bins_before[feature], self.first[feature]
        found = [(before[after], before[until]) for after, until in _intervals(tree, node)]
        return ((first, first + 1), *found) if _takes_missing(tree, node) else tuple(found)

    def passes(self, tests: Sequence[Runs], columns: Sequence[int]) -> tuple[Ints, Ints]:
        """Return where the bits of each test begin, and the words of all, for tests of some columns."""
        words = -(-self._sizes[list(columns)] // WORD_BITS)
        ends = np.cumsum(words) * WORD_BITS
        starts = (ends - words * WORD_BITS).astype(np.int32)
        if not len(ends) or ends[-1] > MAX_PASSES:
            return starts, np.zeros(0, np.int32)
        bits = np.zeros(ends[-1], np.uint8)
        firsts = list(self.first.values())
        for runs, column, start in zip(tests, columns, starts.tolist(), strict=True):
            before = start - firsts[column]
            for after, until in runs:
                bits[before + after : before + until] = 1
        return starts, np.packbits(bits, bitorder="little").view(np.int32)


def _intervals(tree: Tree, node: int) -> Iterator[tuple[float, float]]:
    """Yield values (after, until] that go right at a number, or left at a set of categories, as float32."""
    if tree.decisions[node] & 1:
        members = tree.sets[int(tree.thresholds[node])]
        for run in np.split(members, np.flatnonzero(np.diff(members) > 1) + 1):
            yield float(run[0]) - 0.5, float(run[-1]) + 0.5
    else:
        yield _at_most(tree.thresholds[node]), np.inf


def _at_most(threshold: float) -> float:
    """Return the largest float32 that is not above: it tells float32 values apart as the threshold does."""
    near = np.float32(threshold)
    return float(near if near <= threshold else np.nextafter(near, np.float32(-np.inf)))


def _takes_missing(tree: Tree, node: int) -> bool:
    """Return whether a missing cell is among what `runs` says. LightGBM takes it for 0 where training had none."""
    if tree.decisions[node] & 1:
        return False
    is_told = bool(tree.decisions[node] >> 2 & 3)
    return not tree.decisions[node] & 2 if is_told else bool(tree.thresholds[node] < 0)


def tabulate(trees: Sequence[Tree]) -> ForestTables:
    """Make the tables of an ensemble.

    Args:
        trees: of `read_trees`, at least one.

    Returns:
        The tables.
    """
    bins = _Bins(trees)
    tests: dict[Runs, int] = {}
    nodes: list[tuple[int, int]] = []
    bounds = [0]
    columns: list[int] = []
    planes = max((max(len(tree.leaves) for tree in trees) - 1).bit_length(), 1)
    leaf_rows: list[dict[int, int]] = [{} for _ in trees]
    places: list[int] = []  # what is in each row of all levels: an inner node, or ~ of a leaf's position in `values`
    level = [(number, 0 if len(tree.leaves) > 1 else ~0) for number, tree in enumerate(trees)]
    first = 0
    while level:
        below: list[tuple[int, int]] = []
        for row, (number, node) in enumerate(level):
            if node < 0:
                leaf_rows[number][~node] = first + row
                places.append(~(number * 2**planes + ~node))
                continue
            tree = trees[number]
            places.append(len(nodes))
            nodes.append((row, tests.setdefault(bins.runs(tree, node), len(tests))))
            if len(tests) > len(columns):
                columns.append(bins.columns[int(tree.features[node])])
            children = (number, int(tree.left[node])), (number, int(tree.right[node]))
            below += children if tree.decisions[node] & 1 else reversed(children)
        first += len(level)
        level = below
        if below:
            bounds.append(len(nodes))
    bits = [
        (row, number * planes + plane)
        for number, rows in enumerate(leaf_rows)
        for plane in range(planes)
        for leaf, row in rows.items()
        if leaf >> plane & 1
    ]
    runs = [(after, until, test) for own, test in tests.items() for after, until in own]
    bit_table, node_table = (np.array(table, np.int32).reshape(-1, 2) for table in (bits, nodes))
    run_table = np.array(runs, np.int32).reshape(-1, 3)
    test_bits, passes = bins.passes(list(tests), columns)
    place_table = np.array(places, np.int32)
    place_table = np.where(place_table < 0, len(nodes) + ~place_table, place_table)
    values = np.zeros((len(trees), 2**planes))
    for number, tree in enumerate(trees):
        values[number, : len(tree.leaves)] = tree.leaves
    return ForestTables(
        features=np.array(list(bins.cuts), np.int32),
        cuts=_filled(list(bins.cuts.values())),
        first_bins=np.array([bins.first[feature] for feature in bins.cuts], np.int32),
        num_bins=bins.num_bins,
        run_after=run_table[:, 0],
        run_until=run_table[:, 1],
        run_test=run_table[:, 2],
        test_column=np.array(columns, np.int32),
        test_bit=test_bits,
        passes=passes,
        roots=place_table[: len(trees)],
        children=np.ascontiguousarray(place_table[len(trees) :].reshape(-1, 2).T),
        level_bounds=np.array(bounds, np.int32),
        node_row=node_table[:, 0],
        node_test=node_table[:, 1],
        bit_row=bit_table[:, 0],
        bit_plane=bit_table[:, 1],
        planes=planes,
        values=values.reshape(-1),
        num_trees=len(trees),
    )


def _filled(cuts: Sequence[Sequence[float]]) -> Array:
    filled = np.full((len(cuts), max(map(len, cuts), default=0)), np.inf, np.float32)
    for row, own in zip(filled, cuts, strict=True):
        row[: len(own)] = own
    return filled
