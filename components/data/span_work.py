"""Work on examples in spans: the states of the row groups of spans that were seen before are kept in the workspace.

They are merged in the order of the row groups, so what comes out is what a fresh workspace has, to the last bit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubetfx.components.data.block_work import BlockWork, Each, Item, Result, Run
from kubetfx.components.data.span_shards import KnownShards
from kubetfx.components.data.span_store import SpanStore
from kubetfx.models.examples import RowGroup


def run_by_span(
    work: BlockWork[Item, Any, Any, Result],
    items: Sequence[Item],
    *,
    kind: str,
    examples: Path,
    output: str,
    describe: Callable[[Item], tuple[RowGroup, tuple[Any, ...]]],
    run: Run,
) -> Result:
    """Do work on row groups; on those of spans that were seen before it was done already.

    Args:
        work: what is to be found.
        items: what `BlockWork.blocks` reads.
        kind: of what is kept, such as "statistics".
        examples: folder of the artifact.
        output: URI of the artifact that the work is for; what is kept is in its workspace.
        describe: returns the row group of an item, and all that its state depends on besides its rows and the code.
        run: does work on items.

    Returns:
        The work's result.
    """
    known, store = KnownShards(examples), SpanStore.beside(output)
    if not known or store is None:
        found: Result = run(work, items)
        return found
    places = []
    for item in items:
        group, depends_on = describe(item)
        span, shard = known.of(group)
        places.append(store.place(span, kind, shard, group.number, *depends_on))

    def states_of(unknown: list[int]) -> Any:
        return run(Each(work.compact_state_of, work.setup), list(enumerate(items[number] for number in unknown)))

    return work.result(work.merged(store.completed(places, states_of)))
