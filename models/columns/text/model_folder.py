"""The files of a folder with a model of somebody else, on a disk or in a bucket, and what is wrong with them."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from kubetfx.arrays import Array
from kubetfx.errors import ConfigError
from kubetfx.models.columns.text.model_documents import DamageError, Declared, read_document
from kubetfx.models.columns.text.transformer_shape import Shape
from kubetfx.models.columns.text.weight_names import WeightNames
from kubetfx.storage import Location, list_files, locate

CONFIG = "config.json"
SIZES = "the sizes of the model"
"""What is in it, for errors."""
_CODE = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Ends the names of pickles, which are programs."""


class ModelFolder:
    """A folder that is read, and nothing of which is executed.

    Args:
        place: path or URL.
        key: of the config, which names it.
    """

    def __init__(self, place: str, *, key: str) -> None:
        self.place = place
        self.key = key

    @cached_property
    def folder(self) -> Location:
        """Where it is.

        Raises:
            ConfigError: it is not there, or a file in it is a program.
        """
        try:
            folder = locate(self.place)
        except ValueError as error:
            raise ConfigError(f"{self.key}: {error}") from error
        if not folder.is_dir():
            raise ConfigError(
                f"{self.key}: there is no such folder. Received: {self.place}. Give a folder of Hugging Face "
                "(config.json, model.safetensors and the tokenizer's files) or a preset of KerasHub, on this machine "
                "or in a bucket."
            )
        code = [file.name for file in list_files(folder) if file.name.endswith(_CODE)]
        if code:
            raise ConfigError(
                f"{self.key}: the folder has a pickle, which is a program that loading would execute. Received: "
                f"{folder / code[0]}. Remove it; weights come from model.safetensors or model.weights.h5, and "
                "save_pretrained(FOLDER, safe_serialization=True) of Hugging Face's library writes the first."
            )
        return folder

    def has(self, name: str) -> bool:
        """Return whether there is a file.

        Args:
            name: relative to the folder.
        """
        return (self.folder / name).is_file()

    def check_is_there(self, name: str, *, what: str) -> None:
        """Check that there is a file.

        Args:
            name: relative to the folder.
            what: is in it, for the error.

        Raises:
            ConfigError: there is none.
        """
        if not self.has(name):
            there = ", ".join(file.name for file in list_files(self.folder)) or "nothing"
            raise ConfigError(
                f"{self.key}: the folder lacks {name}, which has {what}. Received: {self.place}, with {there}. Copy "
                "all files of the model."
            )

    def content(self, name: str, *, what: str) -> bytes:
        """Return the content of a file.

        Args:
            name: relative to the folder.
            what: is in it, for the error.

        Raises:
            ConfigError: there is no such file.
        """
        self.check_is_there(name, what=what)
        return (self.folder / name).read_bytes()

    def text(self, name: str, *, what: str) -> str:
        """Return the content of a file of text, with the ends of lines that Unix has.

        Args:
            name: relative to the folder.
            what: is in it, for the error.

        Raises:
            ConfigError: there is no such file, or it is not UTF-8.
        """
        try:
            return self.content(name, what=what).decode().replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise self.error(f"{name} is not text in UTF-8", f"{error}", "Copy the file again.") from error

    def document(self, name: str, declared: type[Declared], *, what: str) -> Declared:
        """Return what a file of JSON has.

        Args:
            name: relative to the folder.
            declared: what has to be in it.
            what: is in it, for the error.

        Raises:
            ConfigError: there is no such file, or something else is in it.
        """
        try:
            return read_document(self.text(name, what=what), declared, name=name)
        except DamageError as damage:
            raise self.error(damage.problem, damage.received, "Copy the file of the model again.") from None

    def checked(self, arrays: Mapping[str, Array], names: WeightNames, shape: Shape, *, file: str) -> dict[str, Array]:
        """Return the weights of a transformer among those of a file.

        Args:
            arrays: of the file, by its names; kernels are (inputs, units).
            names: of the weights there.
            shape: of the transformer.
            file: name of the file.

        Returns:
            By the names of `Shape.weights`, float32. The vector of the first segment is in those of positions.

        Raises:
            ConfigError: one is not there, has another shape, or a value that is not a finite number.
        """
        own = dict(names.by_name(shape))
        wanted = shape.weights()
        sizes = {own[name]: size for name, size in wanted.items()}
        if names.segments:
            sizes[names.segments] = (-1, shape.width)
        for name, size in sizes.items():
            found = arrays[name].shape if name in arrays else None
            if found is None or len(found) != len(size) or found[size[0] < 0 :] != size[size[0] < 0 :]:
                raise self.error(
                    f"the weights in {file} are of another architecture than {CONFIG} says",
                    f"{name} has the shape {found}, not {size}" if found else f"no {name} among {len(arrays)} weights",
                    f"Copy {CONFIG} and {file} from one model.",
                )
        found_weights = {name: self._finite(arrays[own[name]], own[name], file=file) for name in wanted}
        if names.segments:
            found_weights["positions"] += self._finite(arrays[names.segments], names.segments, file=file)[0]
        return found_weights

    def _finite(self, values: Array, name: str, *, file: str) -> Array:
        """Return weights as float32."""
        if values.dtype.kind not in "fiu":
            raise self.error(
                f"{file} has weights that are not numbers", f"{name} of {values.dtype}", "Save the weights as float32."
            )
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        if number := int(np.count_nonzero(~np.isfinite(numbers))):
            raise self.error(
                f"{file} has weights that are infinite or not a number",
                f"{number:,} of {numbers.size:,} in {name}",
                "Copy the file again; if they are in the original too, its training has failed: take another model.",
            )
        return numbers

    def instead(self, *endings: str) -> str:
        """Return `, but NAME` of a file in the folder with one of some endings, for an error.

        Args:
            endings: of names.
        """
        return next((f", but {file.name}" for file in list_files(self.folder) if file.name.endswith(endings)), "")

    def error(self, what: str, received: str, remedy: str) -> ConfigError:
        """Return an error about the folder.

        Args:
            what: is wrong.
            received: what was found.
            remedy: what to do.
        """
        return ConfigError(f"{self.key}: {what}. Received: {self.place}: {received}. {remedy}")
