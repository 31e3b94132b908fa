"""The section `kubeflow`: the pods and tasks of a pipeline on Kubeflow Pipelines."""

import posixpath
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from kubetfx.config.kubernetes_names import (
    Annotations,
    Environment,
    EnvironmentByKey,
    Image,
    Labels,
    MountPath,
    ResourceName,
    SubPath,
    is_volume_name,
)
from kubetfx.config.section import Section

FOLD_PREFIX = "Fold"
WARM_START_MODEL = "WarmStartModel"
"""Id of the node that fetches the served model as the start of a training."""
"""Prefix of the ids of nodes that process a fold of cross-validation as the node without it processes the whole
table.
"""
COMPONENTS = (
    "TableExampleGen",
    "ImageExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "FoldExamples",
    "FoldTransform",
    "FoldTrainer",
    "FoldEvaluator",
    "CrossValidation",
    "FoldEnsemble",
    "Transform",
    "Tuner",
    "BestTrial",
    WARM_START_MODEL,
    "Trainer",
    "ServedModelResolver",
    "Evaluator",
    "Pusher",
    "Report",
    "Tracker",
    "RetrainGate",
    "RetrainEnd",
)
"""Ids of the nodes that `pipeline/definition.py` assembles; `data.format` decides which ExampleGen is used."""


SHARED_MEMORY_PATH = "/dev/shm"
_LIGHT_GROUPS = (
    ("StatisticsGen", "SchemaGen", "ExampleValidator", "AnomalyGate"),
    ("ServedModelResolver", "Evaluator", "Pusher", "Report"),
)
"""Neighbouring components whose work takes less time than starting their pods."""


_MOST = 2**31 - 1
"""The largest number that Kubernetes and Argo Workflows take for retries and seconds: an int32."""
_KUBERNETES_RESOURCE = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"


def _quantity(pattern: str, examples: str) -> AfterValidator:
    """Return a Kubernetes quantity, of the kinds that Kubeflow Pipelines takes."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value) or not re.search(r"[1-9]", value):
            raise ValueError(f"a Kubernetes quantity is needed, such as {examples}. Received: {value!r}")
        return value

    return AfterValidator(check)


def _amount(quantity: str) -> float:
    """Return a quantity as a number: of cores or bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)(\D*)", quantity).groups()  # type: ignore[union-attr]  # it was checked
    if unit == "m":
        return float(number) / 1000
    base = 1024.0 if unit.endswith("i") else 1000.0
    return float(number) * base ** " KMGTPE".index(unit[:1] or " ")


def _mounts(task: "TaskConfig") -> Iterator[tuple[str, str]]:
    """Yield what a task mounts, and where."""
    if task.shared_memory:
        yield "shared_memory", SHARED_MEMORY_PATH
    yield from ((f"the claim {volume.claim!r}", volume.mount_path) for volume in task.volumes)
    for kind, sources in (("Secret", task.secrets), ("ConfigMap", task.config_maps)):
        yield from ((f"the {kind} {source.name!r}", source.mount_path) for source in sources if source.mount_path)


def _as_text(value: Any) -> Any:
    """Return a number as text: YAML reads `cpu: 4` as one."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_Cpu = Annotated[str, BeforeValidator(_as_text), _quantity(r"[0-9]*\.?[0-9]+|[0-9]+m", "4, 0.5 or 500m")]


_Memory = Annotated[str, BeforeValidator(_as_text), _quantity(r"[0-9]+(Ki|[MGTPE]i?)?", "16Gi, 500Mi or 2G")]


class Retries(Section):
    """How often, and after how long, a failed task is retried."""

    count: int = Field(2, ge=0, le=_MOST)
    """Number of retries after the first try."""
    backoff_seconds: int = Field(30, ge=0, le=_MOST)
    """Seconds before the second try."""
    backoff_factor: int = Field(2, ge=1, le=_MOST)
    """Factor by which the wait grows before each further try."""
    deadline_seconds: int = Field(604_800, ge=1, le=_MOST)
    """Seconds from the start of the first try to the end of the last one: a try that is still running then is stopped.
    The default is a week, since the one hour of Kubeflow Pipelines would stop long tasks.
    """


class Gpu(Section):
    """Accelerators of a task."""

    count: int = Field(1, ge=1, le=_MOST)
    """Number of accelerators for the pod."""
    resource: Annotated[str, Field(pattern=_KUBERNETES_RESOURCE)] = "nvidia.com/gpu"
    """Name of the resource that the cluster's device plugin offers."""


class Requests(Section):
    """Resources that the scheduler reserves, if less than the limits."""

    cpu: _Cpu | None = None
    """Cores, for example `2` or `500m`."""
    memory: _Memory | None = None
    """Bytes, for example `4Gi`."""


class Toleration(Section):
    """A node taint that the pod tolerates, in the terms of Kubernetes."""

    key: str | None = None
    """Key of the taint. None, with the operator Exists: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """`Exists` matches any value of the taint."""
    value: str | None = None
    """The taint's value, for `Equal`."""
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None
    """The effect that is tolerated. None: all."""
    toleration_seconds: int | None = Field(None, ge=0, le=_MOST)
    """For NoExecute: seconds that the pod stays on a tainted node. None: forever."""

    @model_validator(mode="after")
    def _fits_its_operator(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"the operator Exists takes no value. Received: {self.value!r}")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("the operator Equal needs a key; without one use operator: Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(
                f"toleration_seconds needs the effect NoExecute, the only one that moves pods. Received: "
                f"{self.effect or 'no effect'}"
            )
        return self


class VolumeClaim(Section):
    """A persistent volume claim that is mounted."""

    claim: ResourceName
    """Name of the PersistentVolumeClaim."""
    mount_path: MountPath
    """Where it appears in the container."""
    sub_path: SubPath = ""
    """Folder of the volume that is mounted. Empty: its root."""


class ConfigSource(Section):
    """A Secret or ConfigMap, as environment variables, as files, or both."""

    name: ResourceName
    """Name of the Secret or ConfigMap."""
    env: EnvironmentByKey = {}
    """Environment variable by key of the Secret or ConfigMap, for example `{accesskey: AWS_ACCESS_KEY_ID}`."""
    mount_path: MountPath | None = None
    """Folder in which each key appears as a file."""
    optional: bool = False
    """true: the pod also starts if the Secret or ConfigMap is missing."""

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        if not self.env and self.mount_path is None:
            raise ValueError(f"{self.name!r} needs env, mount_path or both")
        return self


class TaskConfig(Section):
    """The pod of a task, and how the task is run. Sizes are Kubernetes quantities."""

    cpu: _Cpu | None = None
    """CPU limit, for example `4` or `500m`; it is also the request, unless `requests` sets less."""
    memory: _Memory | None = None
    """Memory limit, for example `16Gi`; it is also the request, unless `requests` sets less."""
    requests: Requests = Requests()
    """Resource requests, if less than the limits."""
    gpu: Gpu | None = None
    """Accelerators of the task. None: it gets no accelerator."""
    node_selector: Labels = {}
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pod tolerates."""
    shared_memory: _Memory | None = None
    """Size of /dev/shm, by default 64 MiB, which is too little for NCCL between several GPUs."""
    volumes: tuple[VolumeClaim, ...] = ()
    """Persistent volume claims to mount, for example the one that holds the data."""
    secrets: tuple[ConfigSource, ...] = ()
    """Secrets as environment variables or files."""
    config_maps: tuple[ConfigSource, ...] = ()
    """Config maps as environment variables or files."""
    env: Environment = {}
    """Environment variables."""
    retries: Retries = Retries(count=0)
    """Retries after a failure."""
    timeout_seconds: int | None = Field(None, ge=1, le=_MOST)
    """Seconds after which a pod of the task is stopped."""
    labels: Labels = {}
    """Labels of the pod."""
    annotations: Annotations = {}
    """Annotations of the pod."""
    cache: bool | None = None
    """Whether outputs of an earlier run with the same inputs are reused. None: for every component except those that
    depend on more than their inputs, such as the push directory, or an Importer that always reimports. TFX's own Pusher
    is cached, so that the same model is pushed once.
    """


class KubeflowConfig(Section):
    """How the pipeline runs on Kubeflow Pipelines."""

    image: Image = "kubetfx/pipeline:latest"
    """Container image of every task."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """Pull policy of the image. None: the default of Kubernetes, which is Always for the tag `latest` and IfNotPresent
    for others.
    """
    image_pull_secrets: tuple[ResourceName, ...] = ()
    """Secrets with the credentials of the image's registry."""
    pod_security: Literal["baseline", "restricted"] = "baseline"
    """Pod Security Standard that the tasks' pods meet. `restricted` makes the package say that no task runs as root.
    Kubeflow Pipelines before 2.16 refuses that, and the image's user must be a number other than 0, as in kubetfx's
    image.
    """
    service_account: ResourceName | None = None
    """Service account of the runs. None: the default of the Kubeflow Pipelines installation."""
    every_component: TaskConfig = TaskConfig()
    """Settings of every task, for example the claim with the data. `resources` adds to them and overrides them."""
    resources: dict[str, TaskConfig] = {}
    """Settings of single tasks, by component. Only a component with `gpu` here gets an accelerator."""
    fuse: Literal["none", "light"] | tuple[tuple[str, ...], ...] = "none"
    """Components that share a task, since each task costs two pods and the imports. `light`: StatisticsGen, SchemaGen,
    ExampleValidator and AnomalyGate are one task, and ServedModelResolver, Evaluator, Pusher and Report another. Or
    lists of neighbouring components."""

    @model_validator(mode="after")
    def _component_is_in_one_group(self) -> Self:
        if not all(self.fused_groups):
            raise ValueError("fuse: a group needs the names of components. Received: an empty one, []")
        names = [name for group in self.fused_groups for name in group]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"fuse: a component can be in one group only. Received: {', '.join(twice)} twice")
        return self

    @model_validator(mode="after")
    def _gpu_is_not_for_all(self) -> Self:
        if self.every_component.gpu:
            raise ValueError(
                "every_component.gpu would leave GPUs idle in light tasks. Set gpu for a single component: resources"
            )
        return self

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        for place, task in self._tasks():
            for what in ("cpu", "memory"):
                request, limit = getattr(task.requests, what), getattr(task, what)
                if request and limit and _amount(request) > _amount(limit):
                    raise ValueError(
                        f"{place}.requests.{what} is more than {place}.{what}, and Kubernetes makes no such pod. "
                        f"Received: {request} and {limit}"
                    )
        return self

    @model_validator(mode="after")
    def _volumes_have_names_of_their_own(self) -> Self:
        """Check the names of volumes: Kubeflow Pipelines names a volume after its claim, Secret or ConfigMap."""
        for place, task in self._tasks():
            kinds = {
                "claim": {volume.claim for volume in task.volumes},
                "Secret": {source.name for source in task.secrets if source.mount_path},
                "ConfigMap": {source.name for source in task.config_maps if source.mount_path},
            }
            names = [name for mounted in kinds.values() for name in sorted(mounted)]
            for name in names:
                if not is_volume_name(name):
                    raise ValueError(
                        f"{place}: a mounted resource needs a name of at most 63 characters without dots, "
                        f"since Kubeflow Pipelines names the volume after it. Received: {name!r}. Mount a resource "
                        f"with another name, or use env."
                    )
                if names.count(name) > 1:
                    both = " and ".join(kind for kind, mounted in kinds.items() if name in mounted)
                    raise ValueError(
                        f"{place}: Kubeflow Pipelines names a volume after its content, and names of volumes are "
                        f"unique in a pod. "
                        f"Received: a {both} {name!r}, both mounted. Rename one of them, or use env."
                    )
        return self

    @model_validator(mode="after")
    def _one_thing_is_at_a_path(self) -> Self:
        """Check paths and variables: Kubernetes refuses two mounts at a path, and takes the last of two values."""
        for place, task in self._tasks():
            seen: dict[str, str] = {}
            for what, path in _mounts(task):
                where = posixpath.normpath(path)
                if where in seen:
                    raise ValueError(
                        f"{place}: one thing can be mounted at a path, and Kubernetes makes no other pod. "
                        f"Received: {seen[where]} and {what}, both at {path}. Give one of them another mount_path"
                    )
                seen[where] = what
            variables = dict.fromkeys(task.env, "env")
            for source in (*task.secrets, *task.config_maps):
                for name in source.env.values():
                    if name in variables:
                        raise ValueError(
                            f"{place}: an environment variable has one value. Received: {name} twice, from "
                            f"{variables[name]} and {source.name!r}. Take one of them out"
                        )
                    variables[name] = repr(source.name)
        return self

    @property
    def fused_groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of components that share a task."""
        if self.fuse == "light":
            return _LIGHT_GROUPS
        return () if self.fuse == "none" else self.fuse

    def _tasks(self) -> Iterator[tuple[str, TaskConfig]]:
        yield "every_component", self.every_component
        yield from ((f"resources.{name}", self.of_component(name)) for name in self.resources)

    def own_settings(self, component: str) -> TaskConfig | None:
        """Return the entry of a component in `resources`, or None.

        A step of a cross-validation fold uses the entry of the step that it mirrors, FoldTrainer that of Trainer; the
        Tuner, which trains, uses that of Trainer too.

        Args:
            component: id of its node.
        """
        like = "Trainer" if component == "Tuner" else component.removeprefix(FOLD_PREFIX)
        return self.resources.get(component) or self.resources.get(like)

    def of_component(self, component: str) -> TaskConfig:
        """Return the settings of a component: `every_component`, with its own entry in `resources` on top.

        Args:
            component: id of its node. Dictionaries and tuples of both are joined, other values replaced.
        """
        own = self.own_settings(component)
        if own is None:
            return self.every_component
        shared = self.every_component
        merged: dict[str, Any] = {name: getattr(own, name) for name in own.model_fields_set}
        for name in merged:
            ours, theirs = getattr(own, name), getattr(shared, name)
            if isinstance(ours, dict):
                merged[name] = {**theirs, **ours}
            elif isinstance(ours, tuple):
                merged[name] = (*theirs, *ours)
        return shared.model_copy(update=merged)
