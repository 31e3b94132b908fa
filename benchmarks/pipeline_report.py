"""The tables of benchmarks/pipeline.py in benchmarks/README.md, and its plot."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme import write_section
from kubetfx.config.kubeflow_section import COMPONENTS

PLOT_PATH = Path(__file__).parent / "pipeline.svg"
BEFORE_PATH = Path(__file__).parent / "pipeline_before.json"
"""Seconds per node when every node was TFX's own executor on Beam."""
MARK = "pipeline"

NAMES = {
    "penguins": "penguins, 344 by 7",
    "1000": "1,000 by 93",
    "10000": "10,000 by 93",
    "61878": "61,878 by 93",
    "counts": "61,878 by 93, counts",
    "flights": "flights, 327,346 by 12",
    "3000000": "3,000,000 by 20",
    "wide": "10,000 by 2,000",
    "61878x20": "61,878 by 20",
    "600000x20": "600,000 by 20",
}
ROWS = {"penguins": 344, "1000": 1_000, "10000": 10_000, "61878": 61_878, "flights": 327_346, "3000000": 3_000_000}
GROWTH = {"61878x20": 61_878, "600000x20": 600_000, "3000000": 3_000_000}
"""Rows of the sizes with the same 20 columns, network and number of epochs."""
GROWTH_GOAL = 1.05
COLUMNS = {"10000": 93, "wide": 2_000}
"""Columns of the sizes with 10,000 rows."""
PEER_NAMES = {"kubetfx": "kubetfx", "tfx": "TFX as taught", "handwritten": "hand-written"}
COLORS = {"kubetfx": "#1a73e8", "tfx": "#b3261e", "handwritten": "#5f6368"}
GOALS = {
    "61878": {"tfx": 5.0, "handwritten": 3.0},
    "counts": {"handwritten": 2.0},
    "flights": {"tfx": 5.0, "handwritten": 3.0},
    "penguins": {"tfx": 3.0},
    "3000000": {"handwritten": 1.8},
    "wide": {"handwritten": 4.0},
}
"""At least so many times as fast as TFX; at most so many times the time of the script."""
COMMAND_GOALS = {
    "kubetfx --help": 0.5,
    "kubetfx schema": 0.5,
    "an error of the config": 0.5,
    "kubetfx compile": 8.0,
    "first line of kubetfx run": 1.0,
}
AGAIN_GOAL = 1.2
"""Again goal of the penguins."""


def write(results: dict[str, Any]) -> None:
    """Put the report into the README, and draw the plot."""
    write_section(MARK, "\n".join(_lines(results)))
    PLOT_PATH.write_text(_plot(results.get("sizes", {})), encoding="utf-8")


def _lines(results: dict[str, Any]) -> Iterator[str]:
    sizes = {size: results["sizes"][size] for size in NAMES if size in results.get("sizes", {})}
    yield results.get("machine", "")
    yield ""
    yield "| work | peer | wall s | CPU s | peak GB | score | kubetfx is | goal |"
    yield "|---|---|---|---|---|---|---|---|"
    for size, runs in sizes.items():
        for peer in PEER_NAMES:
            if peer in runs:
                yield _row(size, peer, runs)
    yield ""
    again = {size: runs["kubetfx again"] for size, runs in sizes.items() if "kubetfx again" in runs}
    if again:
        yield f"An unchanged second run, with no node executed; goal for the penguins: {AGAIN_GOAL:g} s:"
        yield ""
        yield "| work | wall s | CPU s | nodes executed |"
        yield "|---|---|---|---|"
        for size, runs in again.items():
            executed = max(run["executed"] for run in runs)
            yield f"| {NAMES[size]} | {_median(runs, 'wall_seconds')} | {_median(runs, 'cpu_seconds')} | {executed} |"
        yield ""
    if commands := results.get("commands"):
        yield "| command | seconds, median | goal |"
        yield "|---|---|---|"
        for name, goal in COMMAND_GOALS.items():
            seconds = statistics.median(commands[name])
            yield f"| {name} | {seconds:.2f} | {goal:g}: {'reached' if seconds <= goal else 'missed'} |"
        yield ""
    yield from _growth(sizes)
    yield from _nodes(sizes)
    yield from _before_and_after(sizes)


def _row(size: str, peer: str, runs: dict[str, Any]) -> str:
    done = runs[peer]
    (name, score) = next(iter(_scores(done).items()))
    ratio, goal = "", ""
    if peer != "kubetfx" and "kubetfx" in runs:
        times = _wall(done) / _wall(runs["kubetfx"])
        wanted = GOALS.get(size, {}).get(peer)
        if peer == "tfx":
            ratio = f"{times:.1f} times as fast"
            goal = "" if wanted is None else f"{wanted:g}: {'reached' if times >= wanted else 'missed'}"
        else:
            ratio = f"{1 / times:.1f} times its time"
            goal = "" if wanted is None else f"{wanted:g}: {'reached' if 1 / times <= wanted else 'missed'}"
    low, high = min(r["wall_seconds"] for r in done), max(r["wall_seconds"] for r in done)
    spread = f" ({low:.1f} to {high:.1f})" if len(done) > 1 else ""
    peak = max(run["peak_bytes"] for run in done) / 1e9
    return (
        f"| {NAMES[size]} | {PEER_NAMES[peer]} | {_wall(done):.1f}{spread} | {_median(done, 'cpu_seconds')} "
        f"| {peak:.2f} | {name} {score:.4f} | {ratio} | {goal} |"
    )


def _scores(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    metrics = {name: value for name, value in runs[0]["metrics"].items() if name != "example_count"}
    first = "auc" if "auc" in metrics else "accuracy"
    return {first: statistics.median(run["metrics"][first] for run in runs)}


def _wall(runs: Sequence[dict[str, Any]]) -> float:
    return float(statistics.median(run["wall_seconds"] for run in runs))


def _median(runs: Sequence[dict[str, Any]], key: str) -> str:
    return f"{statistics.median(run[key] for run in runs):.1f}"


def _growth(sizes: dict[str, Any]) -> Iterator[str]:
    """Yield how the time grows with the rows, and with the columns."""
    grown = {size: sizes[size]["kubetfx"] for size in GROWTH if "kubetfx" in sizes.get(size, {})}
    if len(grown) > 1:
        power = _power([GROWTH[size] for size in grown], [_wall(runs) for runs in grown.values()])
        verdict = "reached" if power <= GROWTH_GOAL else "missed"
        yield (
            f"**Growth with the rows**: 20 columns, 2 epochs. A straight line through the logarithms has the slope "
            f"{power:.2f} (goal: at most {GROWTH_GOAL:g}: {verdict})."
        )
        yield ""
        yield "| rows | kubetfx, wall s | CPU s | power since the line above | peak GB | hand-written, wall s |"
        yield "|---|---|---|---|---|---|"
        before: tuple[int, float] | None = None
        for size, runs in grown.items():
            rows, seconds = GROWTH[size], _wall(runs)
            since = "" if before is None else f"{_power([before[0], rows], [before[1], seconds]):.2f}"
            peer = sizes[size].get("handwritten")
            yield (
                f"| {rows:,} | {seconds:.1f} | {_median(runs, 'cpu_seconds')} | {since} "
                f"| {max(run['peak_bytes'] for run in runs) / 1e9:.2f} | {f'{_wall(peer):.1f}' if peer else ''} |"
            )
            before = rows, seconds
        yield ""
    wide = {size: sizes[size]["kubetfx"] for size in COLUMNS if "kubetfx" in sizes.get(size, {})}
    if len(wide) > 1:
        power = _power([COLUMNS[size] for size in wide], [_wall(runs) for runs in wide.values()])
        times = " to ".join(f"{_wall(runs):.1f}" for runs in wide.values())
        yield (
            f"**Growth with the columns**: from 93 to 2,000 columns of 10,000 rows the time grows from {times} s, with "
            f"the power {power:.2f} of the columns (2 would be quadratic)."
        )
        yield ""


def _power(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Slope of the straight line that fits the logarithms best."""
    slope, _ = statistics.linear_regression([math.log(x) for x in xs], [math.log(y) for y in ys])
    return slope


def _nodes(sizes: dict[str, Any]) -> Iterator[str]:
    """Yield seconds per node, of kubetfx and of TFX."""
    with_kubetfx = {size: runs for size, runs in sizes.items() if "kubetfx" in runs}
    if not with_kubetfx:
        return
    yield "Seconds per node, medians; in brackets TFX as taught, whose ExampleGen is CsvExampleGen:"
    yield ""
    yield f"| node | {' | '.join(NAMES[size] for size in with_kubetfx)} |"
    yield "|---|" + "---|" * len(with_kubetfx)
    for node in NODES:
        cells = []
        for runs in with_kubetfx.values():
            theirs = _seconds_of_tfx(runs, node)
            cells.append(_seconds_of(runs, node) + (f" ({theirs})" if theirs else ""))
        yield f"| {node} | {' | '.join(cells)} |"
    yield ""


def _seconds_of(runs: dict[str, Any], node: str) -> str:
    return f"{statistics.median(run['nodes'].get(node, 0.0) for run in runs['kubetfx']):.1f}"


def _seconds_of_tfx(runs: dict[str, Any], node: str) -> str:
    if "tfx" not in runs:
        return ""
    seconds = runs["tfx"][0]["nodes"].get(_NAMES_OF_TFX.get(node, node))
    return "" if seconds is None else f"{seconds:.1f}"


NODES = (*(name for name in COMPONENTS if name != "ImageExampleGen"), "outside the nodes")
_NAMES_OF_TFX = {"TableExampleGen": "CsvExampleGen", "ServedModelResolver": "Resolver"}


def _before_and_after(sizes: dict[str, Any]) -> Iterator[str]:
    """Yield where the time went: by node, before and after, with the cause."""
    before = json.loads(BEFORE_PATH.read_text(encoding="utf-8"))
    measured = {size: runs for size, runs in sizes.items() if size in before and "kubetfx" in runs}
    if not measured:
        return
    titles = [
        f"{NAMES[size].split(',')[0]}: {column}" for size in measured for column in ("TFX as taught", "before", "now")
    ]
    yield (
        "**Where the time went.** *Before*: the first version, whose nodes were TFX's executors on Beam, with the "
        "settings of the examples (pipeline_before.json); the rest is from the runs above."
    )
    yield ""
    yield f"| seconds | {' | '.join(titles)} | cause, and what was done |"
    yield "|---|" + "---|" * (len(titles) + 1)
    for node in (*CAUSES, "whole"):
        cells = []
        for size, runs in measured.items():
            if node == "whole":
                theirs = f"{_wall(runs['tfx']):.1f}" if "tfx" in runs else ""
                cells += [theirs, f"{before[size]['wall_seconds']:.1f}", f"{_wall(runs['kubetfx']):.1f}"]
                continue
            then = before[size]["nodes"].get(node)
            cells += [_seconds_of_tfx(runs, node), "" if then is None else f"{then:.1f}", _seconds_of(runs, node)]
        yield f"| {node} | {' | '.join(cells)} | {CAUSES.get(node, '')} |"
    yield ""


CAUSES = {
    "Evaluator": "TFMA adds one row at a time to each metric of each slice, in Python: metrics over columns, models "
    "asked in batches of 8,192, each loaded once",
    "StatisticsGen": "tfx_bsl's decoder (15 µs per row) and batches of 1,000 rows: row groups of Parquet go to TFDV's "
    "generators as they are, by threads or Beam",
    "Transform": "describing Beam's pipeline, rows through Beam, decoding; TFX as taught has an analyzer per column: "
    "all numbers are one tensor, the analysis is carried out on row groups in one pass, and nothing is materialised",
    "Trainer": "the network itself; tf.data shuffled single rows: indices are shuffled, features are in memory",
    "TableExampleGen": "Beam's pipeline and a second scan of the table; TFX as taught parses rows in Python: Arrow "
    "from the file to Parquet",
    "Report": "no node of TFX's: the report of the run, of a sample of the rows",
    "outside the nodes": "start of Python and imports: nothing that a run does not use is imported",
}
"""Why a node took long, and what was done about it."""


def _plot(sizes: dict[str, Any]) -> str:
    """Wall seconds against rows, both logarithmic."""
    width, height, left, bottom, top, right = 720, 440, 60, 50, 20, 20
    points = {
        peer: sorted((ROWS[size], _wall(runs[peer])) for size, runs in sizes.items() if size in ROWS and peer in runs)
        for peer in PEER_NAMES
    }
    low_x, high_x, low_y, high_y = 2.3, 6.7, 0.7, 2.9  # powers of ten: 200 to 5,000,000 rows, 5 to 800 s

    def x(rows: float) -> float:
        return left + (math.log10(rows) - low_x) / (high_x - low_x) * (width - left - right)

    def y(seconds: float) -> float:
        return height - bottom - (math.log10(seconds) - low_y) / (high_y - low_y) * (height - bottom - top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        parts.append(
            f'<line x1="{x(rows):.0f}" x2="{x(rows):.0f}" y1="{top}" y2="{height - bottom}" stroke="#e8eaed"/>'
        )
        parts.append(f'<text x="{x(rows):.0f}" y="{height - bottom + 18}" text-anchor="middle">{rows:,}</text>')
    for seconds in (5, 10, 20, 50, 100, 200, 500):
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(seconds):.0f}" y2="{y(seconds):.0f}" stroke="#e8eaed"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y(seconds) + 4:.0f}" text-anchor="end">{seconds} s</text>')
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{height - 10}" text-anchor="middle">rows of the table</text>')
    for index, (peer, line) in enumerate(points.items()):
        path = " ".join(f"{x(rows):.1f},{y(seconds):.1f}" for rows, seconds in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLORS[peer]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(s):.1f}" r="4" fill="{COLORS[peer]}"/>' for r, s in line]
        parts.append(f'<rect x="{left + 12}" y="{top + 10 + 20 * index}" width="14" height="4" fill="{COLORS[peer]}"/>')
        parts.append(f'<text x="{left + 34}" y="{top + 17 + 20 * index}">{PEER_NAMES[peer]}</text>')
    return "\n".join([*parts, "</svg>", ""])
