"""Which paths of a config the pods of its package see."""

from collections.abc import Collection
from pathlib import PurePosixPath

from kubetfx.config.kubeflow_section import WARM_START_MODEL, TaskConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError


def unseen_paths(config: PipelineConfig, *, given: Collection[str] = (), retrain_gate: bool = False) -> list[str]:
    """Return a warning for each place in a config that is on this machine alone: no volume of the pod holds it.

    Args:
        config: The config of the pipeline.
        given: names of run parameters that the run has values for; the places in the config that they replace are not
            looked at.
        retrain_gate: whether the first task decides if there is a reason to run.

    Returns:
        The warnings.
    """
    trainer, gate = ("Trainer",), ("RetrainGate", "RetrainEnd") if retrain_gate else ()
    warm = (WARM_START_MODEL,) if config.training.warm_start else ()
    users = (*warm, "ServedModelResolver", "Pusher", *gate)
    readers = (config.example_gen, *gate[:1])
    places = [
        ("data.path", None if config.data.source else config.data.path, readers, "data_path"),
        ("serving.push_directory", config.serving.push_directory, users, "push_directory"),
        ("model.weights", config.model.weights if config.model.backbone else None, trainer, None),
        (
            "features.text_encoder.pretrained",
            config.features.text_encoder.pretrained,
            ("Transform", *trainer),
            None,
        ),
        ("training.checkpoint_directory", config.training.checkpoint_directory, trainer, None),
    ]
    lines = []
    for key, path, components, parameter in places:
        if path is None or parameter in given or not path.startswith("/"):
            continue
        blind = [name for name in components if not is_mounted(path, config.kubeflow.of_component(name))]
        if blind:
            instead = f", or give each run the parameter {parameter}" if parameter else ""
            lines.append(
                f"{key} is not in a bucket, and not on a volume of {' and '.join(blind)}: pods cannot see this "
                f"machine's files. Received: {path}. Mount a claim (kubeflow.every_component.volumes){instead}."
            )
    return lines


def is_mounted(path: str, task: TaskConfig) -> bool:
    """Return whether a path is on a volume of a pod.

    Args:
        path: absolute.
        task: settings of the component whose pod it is.
    """
    return any(PurePosixPath(path).is_relative_to(volume.mount_path) for volume in task.volumes)


def check_workers(config: PipelineConfig) -> None:
    """Check that the workers of a training see the folder that they share.

    Args:
        config: The config of the pipeline.

    Raises:
        ConfigError: they do not.
    """
    distribution = config.training.distribution
    if distribution is None or distribution.launcher == "processes":
        return
    if distribution.directory is None:
        raise ConfigError(
            "The nodes of a Ray cluster do not see the files of the Trainer's task. Received: launcher: ray, without "
            "training.distribution.directory. Set it to a folder on a volume that the Trainer's pods and the nodes of "
            "the cluster mount, such as /shared/training."
        )
    trainer = config.kubeflow.of_component("Trainer")
    if not is_mounted(distribution.directory, trainer):
        mounted = ", ".join(volume.mount_path for volume in trainer.volumes) or "none"
        raise ConfigError(
            "training.distribution.directory is not on a volume that the Trainer's pods mount. Received: "
            f"{distribution.directory}; volumes: {mounted}. Mount a ReadWriteMany claim above it: "
            "kubeflow.resources.Trainer.volumes: [{claim: NAME, mount_path: "
            f"{PurePosixPath(distribution.directory).parent}}}]."
        )
