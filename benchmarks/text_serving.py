"""A served model of text: one message over REST and gRPC beside the bare session call, and a million in bulk.

    python -m benchmarks.text_serving [--messages N] [--write] [--busy]

A pipeline of `tweets` (benchmarks/texts.py) trains the model, as `kubetfx init` writes it, with the encoder `bag`. A
message is then sent over one connection; its overhead is what the median request takes longer than the median call of
the session. Last, `kubetfx batch-predict` answers N messages, and a tenth of them, of which each tenth word is left
out at random. Exit code 1: an overhead is over 2 ms, or ten times the messages take over 1.5 times the memory.
"""

import argparse
import csv
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import serving, texts
from benchmarks.measured_process import FinishedProcess, run_process
from benchmarks.readme import machine, write_section
from benchmarks.text import KUBETFX, run_kubetfx, write_timed
from kubetfx.serving.saved_model import SavedModel

MESSAGE = "Landed early again, and the crew was great. Thank you!"
SECONDS = 5.0
ROUNDS = 3
MOST_OVERHEAD, MOST_MEMORY = 2.0, 1.5
"""Milliseconds; and times the memory for ten times the messages."""


def overheads(saved_model: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """Measure one message at a time.

    Args:
        saved_model: the model.
        folder: for a copy of it, and for requests.

    Returns:
        Milliseconds of the bare session call; and by protocol what a request takes besides, the best of the rounds of
        both, medians each.
    """
    base, row = folder / "served", {"text": MESSAGE}
    shutil.copytree(saved_model, base / "1")
    model = SavedModel(base / "1", scheduling="caller")
    bodies = serving._write_bodies(model, row, folder)
    bare = min(serving._bare_call(model, row, 1) for _ in range(ROUNDS))
    requests = {"rest": bodies.rest_1, "grpc": bodies.grpc_1}
    with serving._server(base) as (rest, grpc, _):
        ports = {"rest": rest, "grpc": grpc}
        times = {
            protocol: min(serving._load(protocol, ports[protocol], body, 1, SECONDS)["p50_ms"] for _ in range(ROUNDS))
            for protocol, body in requests.items()
        }
    return bare, {protocol: taken - bare for protocol, taken in times.items()}


def predict(config: Path, workspace: Path, table: Path, folder: Path) -> FinishedProcess:
    """Answer all messages of a table.

    Args:
        config: pipeline.yaml.
        workspace: of its run.
        table: of messages.
        folder: for the output.

    Returns:
        What the command took.
    """
    command = [str(KUBETFX), "batch-predict", str(config), "--input", str(table), "--format", "json"]
    output = folder / f"{table.stem}.parquet"
    return run_process([*command, "--output", str(output), "--set", f"workspace={workspace}"])


def main() -> int:
    """Measure, and print tables.

    Returns:
        The exit code.
    """
    csv.field_size_limit(sys.maxsize)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000, help="in bulk (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the figures into benchmarks/README.md")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubetfx-text-serving-") as name:
        folder = Path(name)
        table = texts.write(next(one for one in texts.SETS if one.name == "tweets"), folder)
        workspace = folder / "workspace"
        run_kubetfx(table, workspace, "bag")
        (saved_model,) = workspace.glob("artifacts/Trainer/model/*/Format-Serving")
        bare, over = overheads(saved_model, folder)
        print(bare, over, file=sys.stderr, flush=True)
        bulk = {}
        for number in (options.messages // 10, options.messages):
            write_timed(table, folder / f"{number}.csv", number=number)
            bulk[number] = predict(workspace.with_suffix(".yaml"), workspace, folder / f"{number}.csv", folder)
            print(number, bulk[number].wall_seconds, bulk[number].peak_bytes, file=sys.stderr, flush=True)
    lines = [
        f"{machine(busy=options.busy)}\n",
        "| one message, ms | bare session call | REST, besides | gRPC, besides |\n|---|---|---|---|",
        f"| p50 | {bare:.2f} | {over['rest']:.2f} | {over['grpc']:.2f} |\n",
        "| messages in bulk | wall s | CPU s | messages per second | peak memory |\n|---|---|---|---|---|",
        *(
            f"| {number:,} | {one.wall_seconds:.1f} | {one.cpu_seconds:.1f} | {number / one.wall_seconds:,.0f} | "
            f"{one.peak_bytes / 2**20:,.0f} MiB |"
            for number, one in bulk.items()
        ),
    ]
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_section("text serving", text)
    few, many = (one.peak_bytes for one in bulk.values())
    return int(max(over.values()) > MOST_OVERHEAD or many > MOST_MEMORY * few)


if __name__ == "__main__":
    sys.exit(main())
