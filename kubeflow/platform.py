"""Gives a task of the kfp SDK the pod that the `kubeflow` section of the config describes.

Settings for which KFP's PipelineSpec has no field go into the package's second document, the Kubernetes platform spec.
"""

from collections.abc import Sequence

from kfp import kubernetes
from kfp.dsl import PipelineTask, structures
from kfp.pipeline_spec import pipeline_spec_pb2

from kubetfx.config.kubeflow_section import SHARED_MEMORY_PATH, KubeflowConfig, Retries, TaskConfig
from kubetfx.errors import CompileError


def merged_config(config: KubeflowConfig, components: Sequence[str]) -> TaskConfig:
    """Return the settings for the task of one component, or of several that were fused.

    Args:
        config: the section `kubeflow`.
        components: ids of the task's nodes.

    Raises:
        CompileError: two fused components ask for different pods.
    """
    own = {name: settings for name in components if (settings := config.own_settings(name)) is not None}
    named = list(own)
    if len({settings.model_dump_json() for settings in own.values()}) > 1:
        raise CompileError(
            f"kubeflow.resources: {', '.join(named)} share a task, and ask for different pods. "
            "Say it for one of them, or take one out of kubeflow.fuse."
        )
    return config.of_component(named[0]) if named else config.every_component


def apply(task: PipelineTask, settings: TaskConfig, *, config: KubeflowConfig) -> None:
    """Give a task its pod.

    Args:
        task: A task of the kfp SDK, which is changed.
        settings: for this task.
        config: the section `kubeflow`, for what holds for all tasks.
    """
    _set_resources(task, settings)
    _set_scheduling(task, settings)
    _set_storage(task, settings)
    for name, value in sorted(settings.env.items()):
        task.set_env_variable(name, value)
    if settings.retries.count:
        _set_retries(task, settings.retries)
    if settings.timeout_seconds:
        kubernetes.set_timeout(task, settings.timeout_seconds)
    for name, value in sorted(settings.labels.items()):
        kubernetes.add_pod_label(task, name, value)
    for name, value in sorted(settings.annotations.items()):
        kubernetes.add_pod_annotation(task, name, value)
    if config.pod_security == "restricted":
        kubernetes.set_security_context(task, run_as_non_root=True)
    if config.image_pull_policy:
        kubernetes.set_image_pull_policy(task, config.image_pull_policy)
    if config.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(config.image_pull_secrets))


class _RetryPolicy(structures.RetryPolicy):
    """Lifts the kfp SDK's limit of an hour for `backoff_max_duration`, which Kubeflow Pipelines does not have."""

    def to_proto(self) -> pipeline_spec_pb2.PipelineTaskSpec.RetryPolicy:
        policy = super().to_proto()
        policy.backoff_max_duration.FromSeconds(int(str(self.backoff_max_duration).removesuffix("s")))
        return policy


def _set_retries(task: PipelineTask, retries: Retries) -> None:
    """Set the retries. To Argo Workflows, `backoff_max_duration` is a deadline that begins with the first try."""
    task._task_spec.retry_policy = _RetryPolicy(
        max_retry_count=retries.count,
        backoff_duration=f"{retries.backoff_seconds}s",
        backoff_factor=retries.backoff_factor,
        backoff_max_duration=f"{retries.deadline_seconds}s",
    )


def _set_resources(task: PipelineTask, settings: TaskConfig) -> None:
    cpu_request = settings.requests.cpu or settings.cpu
    memory_request = settings.requests.memory or settings.memory
    if settings.cpu:
        task.set_cpu_limit(settings.cpu)
    if cpu_request:
        task.set_cpu_request(cpu_request)
    if settings.memory:
        task.set_memory_limit(settings.memory)
    if memory_request:
        task.set_memory_request(memory_request)
    if settings.gpu:
        task.set_accelerator_type(settings.gpu.resource)
        task.set_accelerator_limit(settings.gpu.count)


def _set_scheduling(task: PipelineTask, settings: TaskConfig) -> None:
    for name, value in sorted(settings.node_selector.items()):
        kubernetes.add_node_selector(task, name, value)
    for toleration in settings.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))


def _set_storage(task: PipelineTask, settings: TaskConfig) -> None:
    if settings.shared_memory:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shared-memory",
            mount_path=SHARED_MEMORY_PATH,
            medium="Memory",
            size_limit=settings.shared_memory,
        )
    for volume in settings.volumes:
        kubernetes.mount_pvc(task, pvc_name=volume.claim, mount_path=volume.mount_path, sub_path=volume.sub_path)
    for sources, as_env, as_volume in (
        (settings.secrets, kubernetes.use_secret_as_env, kubernetes.use_secret_as_volume),
        (settings.config_maps, kubernetes.use_config_map_as_env, kubernetes.use_config_map_as_volume),
    ):
        for source in sources:
            if source.env:
                as_env(task, source.name, source.env, optional=source.optional)
            if source.mount_path:
                as_volume(task, source.name, source.mount_path, optional=source.optional)
