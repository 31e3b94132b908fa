"""Fan-outs of TFX components: what they compile to, and what their tasks do with the documents of the launcher."""

import json
from collections.abc import Callable
from typing import Any

import kfp.components
import pytest
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.control_flow.for_each import ForEach
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution import canned_resolver_functions as consecutive_spans
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.decorators import FinalStatusStr
from tfx.types import Channel, standard_artifacts
from tfx.types.channel_utils import union

from kubetfx import fan_out
from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.errors import CompileError, UsageError
from kubetfx.kubeflow.compiler import Extras
from kubetfx.kubeflow.emulation.task_results import TaskFailedError, TaskResult
from kubetfx.kubeflow.emulator import Emulator
from kubetfx.kubeflow.executor_io import local_path
from kubetfx.kubeflow.lint import lint
from kubetfx.pipeline.fan_out import FanOut
from tests.kubeflow.conftest import InThisProcess, specs
from tests.kubeflow.looped_components import Beside, Count, Fold, Gather, Rows
from tests.kubeflow.taxi_pipeline import CsvExampleGen, Number, Pusher, Tell, Text, small


def folds_of(rows: Any, items: Any = (0, 1, 2), **options: Any) -> FanOut:
    def make(fold: int) -> Count:
        trained = Fold(examples=rows.outputs["examples"], fold=fold, folds=3)
        return Count(model=trained.outputs["model"])

    return fan_out(make, items, **options)


def folded(items: Any = (0, 1, 2), **options: Any) -> Any:
    rows = Rows(number=7)
    folds = folds_of(rows, items, **options)
    return small("folds", rows, *folds.components, Gather(texts=folds.outputs["text"]))


def gathered(emulator: Emulator) -> str:
    (task,) = (task for task in emulator.tasks if task.title.endswith("Gather"))
    (artifact,) = (entry for slot, entry in task.artifacts.items() if slot.endswith("gathered"))
    return (local_path(artifact["uri"]) / "value").read_text()


def states(emulator: Emulator) -> dict[str, str]:
    return {task.label: task.state for task in emulator.tasks}


def test_copies_are_one_parallel_loop_whose_outputs_are_collected(compiled, tmp_path):
    (package,) = compiled(folded(at_once=2), {"resources": {"Fold": {"cpu": 2}}})

    tasks = package["root"]["dag"]["tasks"]
    assert set(tasks) == {"rows", "for-loop-2", "gather"}
    assert tasks["for-loop-2"]["iteratorPolicy"] == {"parallelismLimit": 2}
    items = json.loads(tasks["for-loop-2"]["parameterIterator"]["items"]["raw"])
    assert [json.loads(item) for item in items] == [{"copy": n, "fold": n} for n in range(3)]
    body = package["components"]["comp-for-loop-2"]["dag"]
    assert set(body["tasks"]) == {"fold", "count"}
    assert body["tasks"]["fold"]["inputs"]["parameters"] == body["tasks"]["count"]["inputs"]["parameters"]
    assert package["components"]["comp-gather"]["inputDefinitions"]["artifacts"]["texts"]["isArtifactList"]
    assert package["deploymentSpec"]["executors"]["exec-fold"]["container"]["resources"]["cpuLimit"] == 2.0
    assert [node.id for node in specs(package)["fold"].nodes] == ["Fold"]
    assert lint(tmp_path / "package.yaml") == []
    assert kfp.components.load_component_from_file(str(tmp_path / "package.yaml")).name == "folds"


def test_number_of_copies_at_once_is_unbounded_unless_said(compiled):
    (package,) = compiled(folded(1))

    loop = package["root"]["dag"]["tasks"]["for-loop-2"]
    assert "iteratorPolicy" not in loop
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == ['{"copy":0}']


@pytest.mark.parametrize("fuse", [[], [["Fold", "Count"]]], ids=["a task each", "one task"])
def test_outputs_arrive_in_the_order_of_the_items(run, fuse):
    emulator, _ = run(folded([2, 0, 1]), config=KubeflowConfig(fuse=fuse))

    assert gathered(emulator) == "2: 2; 0: 3; 1: 2"
    names = ["Fold.{0} + Count.{0}"] if fuse else ["Fold.{0}", "Count.{0}"]
    labels = [name.format(index) for index in range(3) for name in names]
    assert list(states(emulator)) == ["Rows", *labels, "Gather"]


def test_each_copy_has_its_own_entries_in_the_cache(run):
    run(folded([0, 1]))
    emulator, _ = run(folded([0, 2]), run_id="2")

    assert states(emulator) == {
        "Rows": "cached",
        "Fold.0": "cached",
        "Count.0": "cached",
        "Fold.1": "done",
        "Count.1": "done",
        "Gather": "done",
    }
    assert gathered(emulator) == "0: 3; 2: 2"


def test_copies_that_differ_in_nothing_are_run_each(run):
    """As searchers are that pull what to try from a shared place."""
    rows = Rows(number=4)
    same = folds_of(rows, [1, 1])
    emulator, _ = run(small("same", rows, *same.components, Gather(texts=same.outputs["text"])))

    assert set(states(emulator).values()) == {"done"}
    assert gathered(emulator) == "1: 1; 1: 1"


class FailsAtFirst(InThisProcess):
    """Fails at the first try of each task whose label is given."""

    def __init__(self, *labels: str) -> None:
        super().__init__()
        self._labels = set(labels)
        self.tries: list[str] = []

    def __call__(self, command: Any, environment: Any, image: str, task: TaskResult) -> int:
        self.tries.append(task.label)
        if task.label in self._labels:
            self._labels.remove(task.label)
            return 1
        return super().__call__(command, environment, image, task)


def test_copy_is_tried_again_without_the_others(run):
    tasks = FailsAtFirst("Fold.1")
    emulator, _ = run(folded(), config=KubeflowConfig(resources={"Fold": {"retries": {"count": 1}}}), tasks=tasks)

    assert tasks.tries == ["Rows", "Fold.0", "Count.0", "Fold.1", "Fold.1", "Count.1", "Fold.2", "Count.2", "Gather"]
    assert gathered(emulator) == "0: 3; 1: 2; 2: 2"


def test_copy_that_fails_fails_the_run_and_the_next_run_takes_the_others_from_the_cache(run, tmp_path):
    handler = Tell(path=str(tmp_path / "told"), status=FinalStatusStr())
    tasks = InThisProcess()
    with pytest.raises(TaskFailedError) as failure:
        run(folded([0, 13, 2]), extras=Extras(exit_handler=handler), tasks=tasks)

    assert failure.value.task.label == "Fold.1"
    assert "Gather" not in tasks.seen
    assert json.loads((tmp_path / "told").read_text())["state"] == "FAILED"

    emulator, _ = run(folded([0, 1, 2]), run_id="2")
    assert [label for label, state in states(emulator).items() if state == "cached"] == [
        "Rows",
        "Fold.0",
        "Count.0",
        "Fold.2",
        "Count.2",
    ]


def test_value_that_differs_arrives_as_it_is(run, tmp_path):
    texts = ["{{x}} $(HOME) $$", 'é "quoted"', "{}"]
    places = [(tmp_path / str(number), text) for number, text in enumerate(texts)]
    told = fan_out(lambda place: Tell(path=str(place[0]), status=place[1]), places)
    run(small("texts", *told.components))

    assert [path.read_text() for path, _ in places] == texts


def test_run_parameter_reaches_all_copies(run):
    rows = Rows(number=RuntimeParameter("rows", int, 7))
    folds = fan_out(
        lambda fold: Fold(examples=rows.outputs["examples"], fold=fold, folds=RuntimeParameter("folds", int, 3)), 2
    )
    emulator, _ = run(small("set", rows, *folds.components), folds=7)

    models = [task.artifacts["model"] for task in emulator.tasks if task.title == "Fold"]
    assert [(local_path(model["uri"]) / "rows").read_text() for model in models] == ["0", "1"]


def test_second_fan_out_takes_what_all_copies_of_the_first_made(run):
    rows = Rows(number=7)
    folds = folds_of(rows)
    again = fan_out(lambda _: Gather(texts=folds.outputs["text"]), 2)
    emulator, _ = run(small("twice", rows, *folds.components, *again.components))

    values = [task.artifacts["gathered"] for task in emulator.tasks if task.title == "Gather"]
    assert {(local_path(value["uri"]) / "value").read_text() for value in values} == {"0: 3; 1: 2; 2: 2"}
    assert len(values) == 2


def test_condition_around_the_copies_and_condition_in_each(run):
    rows, number = Rows(number=7), Number(value=1)

    def make(fold: int) -> Any:
        trained = Fold(examples=rows.outputs["examples"], fold=fold, folds=3)
        with Cond(trained.outputs["model"].future()[0].custom_property("fold") == 1):
            Count(model=trained.outputs["model"])
        return trained

    with Cond(number.outputs["number"].future()[0].value == 1):
        folds = fan_out(make, 3)
    emulator, _ = run(small("conditions", rows, number, *folds.components))

    assert [label for label in states(emulator) if label.startswith("Count")] == ["Count.1"]


def test_example_gen_in_each_copy_has_a_driver_of_its_own(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text("a\n" + "1\n" * 9)
    read = fan_out(lambda name: CsvExampleGen(input_base=str(tmp_path / name)), ["a", "b"])
    emulator, _ = run(small("read", *read.components))

    assert list(states(emulator)) == [
        "CsvExampleGen driver.0",
        "CsvExampleGen.0",
        "CsvExampleGen driver.1",
        "CsvExampleGen.1",
    ]


def test_other_outputs_and_outputs_of_copies_go_into_one_channel(run):
    rows, lone = Rows(number=7), Rows(number=2).with_id("Lone")
    alone = Count(model=Fold(examples=lone.outputs["examples"], fold=0, folds=1).with_id("L").outputs["model"])
    folds = folds_of(rows)
    gather = Gather(texts=union([alone.with_id("Alone").outputs["text"], folds.outputs["text"]]))
    producers = [gather, lone, alone, next(iter(alone.inputs.values())).producer_component]
    emulator, _ = run(small("mixed", rows, *folds.components, *producers))

    assert gathered(emulator) == "0: 2; 0: 3; 1: 2; 2: 2"


# ForEach of TFX


def counted(models: Any) -> Count:
    with ForEach(models) as model:
        return Count(model=model)


def test_for_each_over_the_outputs_of_copies_is_part_of_their_loop(run, compiled):
    def pipeline() -> Any:
        rows = Rows(number=7)
        folds = fan_out(lambda fold: Fold(examples=rows.outputs["examples"], fold=fold, folds=3), 3)
        count = counted(folds.outputs["model"])
        with ForEach(count.outputs["text"]) as text:
            gather = Gather(texts=text).with_id("Each")
        return small("each", rows, *folds.components, count, gather, Gather(texts=gather.outputs["gathered"]))

    (package,) = compiled(pipeline())
    emulator, _ = run(pipeline())

    assert set(package["components"]["comp-for-loop-2"]["dag"]["tasks"]) == {"fold", "count", "each"}
    assert gathered(emulator) == "0: 3; 1: 2; 2: 2"


def models(*numbers: int) -> tuple[list[Any], list[Any]]:
    """Components that make a model each, and the channels of the models."""
    rows = Rows(number=7)
    folds = [Fold(examples=rows.outputs["examples"], fold=n, folds=3).with_id(f"Fold {n}") for n in numbers]
    return [rows, *folds], [fold.outputs["model"] for fold in folds]


def test_for_each_over_several_outputs_is_a_loop_with_an_item_each(run, tmp_path):
    components, channels = models(2, 0)
    count = counted(union(channels))
    gather = Gather(texts=count.outputs["text"])
    emulator, tasks = run(small("each", *components, count, gather))

    assert gathered(emulator) == "2: 2; 0: 3"
    assert [label for label in states(emulator) if "Count" in label] == ["Count.0", "Count.1"]
    assert lint(tmp_path / "package.yaml") == []
    taken = json.loads(tasks.seen["Count"][0])["inputs"]
    assert taken["parameterValues"] == {"item": '{"copy":1}'}
    assert len(taken["artifacts"]) == 2


def test_for_each_over_one_output_is_the_component_itself(run):
    components, (channel,) = models(2)
    count = counted(channel)
    emulator, _ = run(small("each", *components, count, Gather(texts=count.outputs["text"])))

    assert gathered(emulator) == "2: 2"
    assert "Count" in states(emulator)


def test_component_in_a_for_each_may_take_all_of_the_artifacts_too(run):
    rows = Rows(number=7)
    folds = folds_of(rows)
    with ForEach(folds.outputs["text"]) as text:
        gather = Beside(one=text, all=folds.outputs["text"])
    emulator, _ = run(
        small("each", rows, *folds.components, gather, Gather(texts=gather.outputs["gathered"])),
    )

    assert gathered(emulator) == "0: 3 of 3; 1: 2 of 3; 2: 2 of 3"


def test_for_each_under_a_condition_that_its_artifacts_are_not_under(run):
    rows, number = Rows(number=7), Number(value=1)
    folds = fan_out(lambda fold: Fold(examples=rows.outputs["examples"], fold=fold, folds=3), 3)
    with Cond(number.outputs["number"].future()[0].value == 1):
        count = counted(folds.outputs["model"])
        gather = Gather(texts=count.outputs["text"])
    emulator, _ = run(small("each", rows, number, *folds.components, count, gather))

    assert gathered(emulator) == "0: 3; 1: 2; 2: 2"


def test_loop_with_more_iterations_than_artifacts_is_told_of(run, tmp_path):
    """The second output stays empty: nothing is pushed."""
    components, (channel,) = models(2)
    latest = Resolver(strategy_class=LatestBlessedModelStrategy, model=Channel(type=standard_artifacts.Model))
    pusher = Pusher(
        model=channel, push_destination={"filesystem": {"base_directory": str(tmp_path / "pushed")}}
    ).with_id("Later")
    pusher.add_upstream_node(latest.with_id("Latest"))
    count = counted(union([channel, latest.outputs["model"]]))
    tasks = InThisProcess()
    with pytest.raises(TaskFailedError):
        run(small("each", *components, latest, pusher, count), tasks=tasks)

    assert "Count: the loop has more iterations than there are artifacts. Received: 1 artifacts" in str(
        tasks.errors["Count"]
    )


def _other_input() -> Any:
    rows, others = Rows(number=1), Rows(number=2).with_id("Others")
    folds = fan_out(lambda r: Fold(examples=r.outputs["examples"], fold=0, folds=1), [rows, others])
    return small("p", rows, others, *folds.components)


def _one_copy_taken() -> Any:
    rows = Rows(number=1)
    folds = folds_of(rows)
    first = next(node for node in folds.components if node.id == "Count.0")
    return small("p", rows, *folds.components, Gather(texts=first.outputs["text"]))


def _copy_takes_of_another() -> Any:
    rows, made = Rows(number=1), []

    def make(fold: int) -> Any:
        made.append(Fold(examples=rows.outputs["examples"], fold=fold, folds=1))
        return Count(model=made[0].outputs["model"])

    return small("p", rows, *fan_out(make, 2).components)


def _left_out() -> Any:
    rows = Rows(number=1)
    return small("p", rows, *folds_of(rows).components[:-1])


def _name_taken() -> Any:
    return small("p", Number(value=1), *fan_out(lambda n: Number(value=n), 2).components)


def _condition_about_a_copy() -> Any:
    numbers = fan_out(lambda n: Number(value=n), 1)
    with Cond(numbers.components[0].outputs["number"].future()[0].value == 0):
        number = Number(value=1).with_id("Other")
    return small("p", *numbers.components, number)


def _conditional_in_a_copy() -> Any:
    number = Number(value=1).with_id("One")

    def make(n: int) -> Any:
        with Cond(number.outputs["number"].future()[0].value == 1):
            return Text(value=str(n))

    texts = fan_out(make, 2)
    return small("p", number, *texts.components, Gather(texts=texts.outputs["text"]))


def _for_each_in_a_copy() -> Any:
    components, channels = models(1, 2)
    counts = fan_out(lambda _: counted(union(channels)), 2)
    return small("p", *components, *counts.components)


def _for_each_over_what_a_resolver_finds() -> Any:
    components, _ = models(1)
    with ForEach(consecutive_spans.sequential_rolling_range(components[0].outputs["examples"])) as found:
        node = Fold(examples=found, fold=0, folds=1).with_id("Window")
    return small("p", *components, node)


def _two_exit_handlers() -> Any:
    tell = [Tell(path="/tmp/x", status=FinalStatusStr()).with_id(name) for name in ("One", "Two")]
    return small("p", Number(value=1), *tell)


def _exit_handler_in_a_copy() -> Any:
    return small("p", *fan_out(lambda n: Tell(path=str(n), status=FinalStatusStr()), 2).components)


def _too_long() -> Any:
    return small("p", *fan_out(lambda n: Text(value=f"{n}" + "x" * 50_000), 3).components)


def _item_is_taken() -> Any:
    return small("p", *fan_out(lambda _: Number(value=RuntimeParameter("item", int, 1)), 2).components)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_other_input, r"Fold: the copies .* the input 'examples' is \['Rows.examples'\] in copy 0, and \['Others"),
        (_one_copy_taken, "Gather: takes 'text' of some of the 3 copies of Count. Received: those of copy 0. Take"),
        (_copy_takes_of_another, r"Count: .*'Fold.model of its own copy'\] in copy 0, and \['Fold.model of copy 0'\]"),
        (_left_out, "Count: some copies of it are not in the pipeline. Received: Count.0, Count.1, of 3"),
        (_name_taken, "Number: is the name of a component, and also of .* Received: Number, Number.0, Number.1"),
        (_condition_about_a_copy, "Other: is under a condition about 'number' of Number, of which each copy"),
        (_conditional_in_a_copy, "Gather: takes what Text makes, which is under a condition"),
        (_for_each_in_a_copy, r"Count\.0: is in a ForEach inside of a fan_out"),
        (_for_each_over_what_a_resolver_finds, "Window: the input .examples. is looked up in ML Metadata"),
        (_two_exit_handlers, "A pipeline has one exit handler. Received: One, Two"),
        (_exit_handler_in_a_copy, "Tell: takes the final status .*under a Cond, a ForEach or a fan_out"),
        (_too_long, "Text: what the copies .* differ in is too long .* 150,0.. bytes for 3 copies, more than 122,880"),
        (_item_is_taken, r"Number\.0: the RuntimeParameter 'item' has a name that a task in a loop"),
    ],
)
def test_what_a_loop_cannot_be_made_of_is_refused(compiled: Callable[..., Any], make: Any, message: str):
    with pytest.raises(CompileError, match=message):
        compiled(make())


def test_node_of_a_loop_is_not_fused_with_one_outside(compiled):
    with pytest.raises(CompileError, match="not all copies of one fan_out"):
        compiled(folded(), {"fuse": [["Count", "Gather"]]})


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "nothing to make copies from. Received: \\[\\]"),
        (0, "nothing to make copies from"),
        (True, "items are a list or a number. Received: True"),
        ("abc", "items are a list or a number. Received: 'abc'"),
        (-1, "nothing to make copies from"),
    ],
)
def test_items_that_are_none_are_refused(items, message):
    with pytest.raises(UsageError, match=message):
        fan_out(lambda n: Number(value=n), items)


@pytest.mark.parametrize("at_once", [0, True, 1.5])
def test_number_at_once_that_is_none_is_refused(at_once):
    with pytest.raises(UsageError, match=r"at_once is a number of copies from 1\. Received"):
        fan_out(lambda n: Number(value=n), 2, at_once=at_once)


def test_what_makes_no_copy_is_refused():
    with pytest.raises(UsageError, match=r"no outputs in what the function made\. Received: None"):
        fan_out(lambda n: None, 2)
    with pytest.raises(UsageError, match=r"all copies have the same outputs\. Received: number, and examples"):
        fan_out(lambda n: Number(value=n) if n == 0 else Rows(number=n), 2)
    with pytest.raises(UsageError, match="a copy cannot fan out again"):
        fan_out(lambda n: fan_out(lambda m: Number(value=m), 2).outputs, 2)
