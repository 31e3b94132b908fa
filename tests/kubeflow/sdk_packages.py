"""Pipelines as users of the kfp SDK write them; compiled by the tests that import them."""

from typing import NamedTuple, Optional

from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Dataset, Input, Model, Output

IMAGE = "example.org/kubetfx/pipeline:1"


@dsl.component(base_image=IMAGE)
def count(rows: int, examples: Output[Dataset]) -> int:
    with open(examples.path, "w") as file:
        file.write(f"{rows} {{'rows': 1}}")
    return rows


@dsl.component(base_image=IMAGE)
def flip(side: str = "heads") -> str:
    return side


@dsl.component(base_image=IMAGE)
def add(numbers: list[int]) -> int:
    return sum(numbers)


@dsl.component(base_image=IMAGE)
def notify(status: dsl.PipelineTaskFinalStatus, run_name: str, note: str = "") -> None:
    print(status, run_name, note)


@dsl.container_component
def train(
    examples: Input[Dataset],
    model: Output[Model],
    accuracy: dsl.OutputPath(float),  # type: ignore[valid-type]
    epochs: int = 3,
    comment: Optional[str] = None,  # noqa: UP045 - kfp knows no `str | None`
):
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "trainer"],
        args=[
            "--examples",
            examples.path,
            "--model",
            model.path,
            "--accuracy",
            accuracy,
            "--epochs",
            epochs,
            "--executor-input",
            dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER,
            dsl.IfPresentPlaceholder(input_name="comment", then=["--comment", comment]),
        ],
    )


@dsl.container_component
def push(model: Input[Model], destination: str):
    return dsl.ContainerSpec(image=IMAGE, command=["push"], args=[model.uri, destination])


@dsl.container_component
def produce(examples: Output[Dataset]):
    return dsl.ContainerSpec(image=IMAGE, command=["produce"], args=[dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER])


@dsl.container_component
def compare(left: Input[Dataset], right: Input[Dataset]):
    return dsl.ContainerSpec(image=IMAGE, command=["compare"], args=[dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER])


@dsl.pipeline(name="hand-on")
def hand_on(left: Input[Dataset], right: Input[Dataset]) -> NamedTuple("Both", first=Dataset, again=Dataset):  # type: ignore[valid-type]
    compare(left=left, right=left)
    examples = produce().outputs["examples"]
    return NamedTuple("Both", first=Dataset, again=Dataset)(examples, examples)  # type: ignore[call-arg]


@dsl.pipeline(name="everything-twice")
def everything_twice(side: str = "heads"):
    examples = produce().outputs["examples"]
    handed = hand_on(left=examples, right=examples)
    with dsl.If(side == "heads"):
        compare(left=examples, right=examples)
    compare(left=handed.outputs["first"], right=handed.outputs["again"])
    imported = [dsl.importer(artifact_uri="gs://rows/1", artifact_class=Dataset).output for _ in range(2)]
    compare(left=imported[0], right=imported[1])


@dsl.pipeline(name="each-once")
def each_once():
    first, second = produce(), count(rows=1)
    compare(left=first.outputs["examples"], right=second.outputs["examples"])
    imported = [
        dsl.importer(artifact_uri="gs://rows/1", artifact_class=Dataset, reimport=True).output for _ in range(2)
    ]
    compare(left=imported[0], right=imported[1])
    compare(left=first.outputs["examples"], right=imported[0])


@dsl.pipeline(name="once-more")
def once_more():
    examples = produce().outputs["examples"]
    compare(left=examples, right=examples)


@dsl.pipeline(name="twice-to-a-dag")
def twice_to_a_dag():
    examples = produce().outputs["examples"]
    hand_on(left=examples, right=examples)


@dsl.pipeline(name="twins")
def twins():
    """The second of two tasks that do the same takes its output from the cache of the first."""
    compare(left=produce().outputs["examples"], right=produce().outputs["examples"])


@dsl.pipeline(name="inner")
def inner(rows: int, side: str = "heads") -> int:
    counted = count(rows=rows)
    flip(side=side)
    return counted.outputs["Output"]


@dsl.pipeline(name="kitchen-sink", description="One of everything that the SDK writes.")
def kitchen_sink(rows: int = 100, side: str = "heads", destination: str = "/models", items: list[int] = [1]):  # noqa: B006
    notified = notify(run_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER, note=f"rows: {rows}")
    with dsl.ExitHandler(notified, name="everything"):
        claim = kubernetes.CreatePVC(pvc_name_suffix="-data", access_modes=["ReadWriteOnce"], size="1Gi")
        kubernetes.DeletePVC(pvc_name=claim.outputs["name"])
        counted = count(rows=rows)
        counted.set_caching_options(False)
        trained = train(examples=counted.outputs["examples"], epochs=5)
        trained.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
        trained.set_cpu_limit("4").set_memory_limit("8Gi").set_retry(2, backoff_duration="30s")
        trained.set_env_variable("HOME", "/tmp")
        kubernetes.add_node_selector(trained, "pool", "gpu")
        kubernetes.add_toleration(trained, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
        kubernetes.mount_pvc(trained, pvc_name="data", mount_path="/data")
        kubernetes.use_secret_as_env(trained, secret_name="s3", secret_key_to_env={"key": "AWS_ACCESS_KEY_ID"})
        kubernetes.empty_dir_mount(trained, volume_name="shm", mount_path="/dev/shm", medium="Memory")
        kubernetes.set_timeout(trained, seconds=3600)
        with dsl.If(trained.outputs["accuracy"] > 0.5, name="good"):
            push(model=trained.outputs["model"], destination=destination)
        tossed = flip(side=side)
        with dsl.If(tossed.output == "heads"):
            heads = flip(side="heads")
        with dsl.Elif(tossed.output == "tails"):
            tails = flip(side="tails")
        with dsl.Else():
            edge = flip(side="edge")
        flip(side=dsl.OneOf(heads.output, tails.output, edge.output))
        with dsl.ParallelFor(items=[1, 2, 3], parallelism=2) as item:
            counted_here = count(rows=item)
            flip(side=dsl.PIPELINE_TASK_NAME_PLACEHOLDER).after(counted_here)
        add(numbers=dsl.Collected(counted_here.outputs["Output"]))
        with dsl.ParallelFor(items=items) as item:
            inner(rows=item)
        with dsl.If(side == "frozen"):
            frozen = dsl.importer(artifact_uri="gs://models/1", artifact_class=Model, reimport=False)
            push(model=frozen.output, destination=destination)
        imported = dsl.importer(artifact_uri=destination, artifact_class=Artifact, metadata={"rows": 1})
        flip().after(imported)


@dsl.pipeline(name="two-steps")
def two_steps(rows: int = 100, rate: float = 0.5, side: str = "heads", sizes: list[int] = [4]):  # noqa: B006
    counted = count(rows=rows)
    train(examples=counted.outputs["examples"])
    flip(side=side)


@dsl.pipeline(name="needs-a-side")
def needs_a_side(side: str):
    flip(side=side)


@dsl.pipeline(name="item-in-a-text")
def item_in_a_text():
    """kfp 2.16 passes the loop's item to the exit handler's DAG, as if the pipeline had a parameter of that name."""
    with dsl.ExitHandler(notify(run_name="x")), dsl.ParallelFor(items=[1, 2]) as item:
        flip(side=f"item {item}")
