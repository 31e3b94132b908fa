"""What a run has pushed, to compare it with what another has."""

import numpy as np
import tensorflow as tf

from tests.e2e.project import Project


def pushed_tensors(project: Project) -> dict[str, np.ndarray]:
    """Values of the model by name, without the copies that Keras leaves in a set's order."""
    (version,) = project.versions
    checkpoint = tf.train.load_checkpoint(str(project.pushed / str(version) / "variables" / "variables"))
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.startswith("variables/")]
    return {name: checkpoint.get_tensor(name) for name in names}


def pushed_files(project: Project) -> set[str]:
    (version,) = project.versions
    folder = project.pushed / str(version)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
