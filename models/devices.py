"""What a training computes with: the devices of this machine, and the precision of its layers."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf
from absl import logging

from kubetfx.config.training_section import TrainingConfig
from kubetfx.errors import TrainingError


def prepare_devices(training: TrainingConfig) -> None:
    """Find the GPUs, before TensorFlow starts to use them.

    Args:
        training: the section of the config.

    Raises:
        TrainingError: there is none, and the config says that there must be.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if training.require_gpu and not gpus:
        devices = ", ".join(device.name for device in tf.config.list_physical_devices())
        raise TrainingError(
            f"No GPU was found, and training.require_gpu asks for one. Received: {devices}. "
            "Give the Trainer a GPU (kubeflow.resources.Trainer.gpu) and an image with the CUDA libraries, or set "
            "training.require_gpu: false."
        )
    distribution = training.distribution
    try:
        if distribution is not None and distribution.strategy == "mirrored" and not gpus:
            processors = [tf.config.LogicalDeviceConfiguration()] * distribution.workers
            tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], processors)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, training.memory_growth)
    except RuntimeError as error:  # another node of this process has used them
        logging.warning("training.memory_growth has no effect: %s", error)
    logging.info("GPUs: %d.", len(gpus))


@contextlib.contextmanager
def precision(training: TrainingConfig) -> Iterator[None]:
    """Have layers that are built meanwhile compute in `training.mixed_precision`.

    Args:
        training: the section of the config.
    """
    before = keras.config.dtype_policy()
    if training.mixed_precision != "none":
        keras.config.set_dtype_policy(f"mixed_{training.mixed_precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
