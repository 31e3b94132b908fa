"""The section `model`: the network, and trees."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kubetfx.config.metric_catalogue import Task
from kubetfx.config.section import Section

DEFAULT_MODULE = "kubetfx.models.network"
"""The module of the network where `model.module` names none."""


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Section):
    """How images are changed at random in training, each time anew. A served model does none of it. 0: not at all."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Half of the images are mirrored."""
    rotation_degrees: float = Field(0, ge=0, le=180)
    """Turned by at most so much, either way."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    """Larger or smaller by at most so much: 0.1 is 10 percent."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    """Moved by at most this share of width and height."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    """More or less contrast by at most this share."""
    brightness: Share = 0
    """For colour jitter: brighter or darker by at most this share of white."""
    saturation: Share = 0
    """For colour jitter: more or less colour by at most this share."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0
    """For colour jitter: turned round the circle of colours by at most this share of it."""
    noise: Share = 0
    """Standard deviation of the noise at most, as a share of white."""
    cutout: Share = 0
    """Edge of a square that is blanked out at most, as a share of the image's."""
    mixup: Share = 0
    """Alpha of the Beta distribution by which two images and their labels are mixed: 0.2 is usual."""


NO_PICTURES = (
    "Trees take no pictures. Received: model.kind: trees, and the column {column!r} of them. Set model.kind: network, "
    "or leave the column out, data.drop: [{column}]."
)


class TreesConfig(Section):
    """Boosted trees, of LightGBM, whose names these keys have."""

    num_iterations: Annotated[int, Field(ge=1)] | None = None
    """Rounds at most; each adds a tree, or one per class where there are more than two. None: 2,000, and fewer where
    cells of the training rows are very many."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """What each tree counts. None: 0.05, or 0.1 of more than two classes, and more where
    rounds are fewer."""
    num_leaves: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Leaves of a tree at most. None: 31, and 15 of fewer than 3,000 training rows."""
    max_depth: int = Field(-1, ge=-1)
    """Levels of a tree at most. -1: any."""
    min_data_in_leaf: int = Field(20, ge=1)
    """Training rows of a leaf at least."""
    feature_fraction: float = Field(1, gt=0, le=1)
    """Share of the columns that each tree is made of, taken at random."""
    feature_fraction_bynode: float = Field(0.7, gt=0, le=1)
    """Share of those that each split is chosen from, taken at random."""
    bagging_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the rows that each tree is made of, taken at random. None: 0.8, and 0.5 where cells are very many."""
    max_bin: Annotated[int, Field(ge=2, le=65_535)] | None = None
    """Bins of a column, between which it is split. None: 255, and 63 where cells are very many."""
    lambda_l1: float = Field(0, ge=0)
    """L1 regularisation of the leaves."""
    lambda_l2: float = Field(1, ge=0)
    """L2 regularisation of the leaves."""
    early_stopping_rounds: Annotated[int, Field(ge=1)] | None = None
    """Training stops after so many rounds without a lower validation loss, and the trees of the best are kept. None:
    100, and fewer where the rate is higher."""


class ModelConfig(Section):
    """The model."""

    kind: Literal["network", "trees", "auto", "image"] = "network"
    """`trees`: boosted trees. `auto`: network and trees are both trained, and the better one, or their average, is
    taken. `image` goes with `data.format: images`, and need not be said."""
    image_size: (
        Annotated[int, Field(ge=8, le=4096)]
        | tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]]
    ) = 64
    """For images: pixels that each is resized to, one number for a square or [height, width]."""
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    """For images of other proportions: `pad` adds black borders, `crop` takes the middle, `stretch` neither."""
    filters: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """For the small network for images: channels of each block; every block but the first halves the image. Empty: from
    the size."""
    backbone: str | None = None
    """For images: a network of keras.applications by its class, for example EfficientNetB0. Default: a small one."""
    weights: str = "imagenet"
    """For a backbone: `imagenet`, `none`, or the path of a .weights.h5 file."""
    augmentation: AugmentationConfig = AugmentationConfig()
    top_k: int = Field(5, ge=1)
    """For images: most likely classes that a served model names; also what `top_k_accuracy` counts."""
    task: Task = "classification"
    """`classification` for two classes or more, `regression` for a number."""
    module: str | None = None
    """Your own module in place of kubetfx.models.network, by import path: installed, or beside pipeline.yaml. It has
    the same two functions: preprocessing_fn(inputs, custom_config) and build_model(...); for images, too."""
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    """Units of each hidden layer. Of images by themselves, and of text by itself, there is none by default."""
    activation: Literal["elu", "gelu", "leaky_relu", "mish", "relu", "selu", "silu", "tanh"] = "relu"
    """Activation of the hidden layers, as Keras names it."""
    batch_normalization: bool = False
    """Normalise the activations of each hidden layer over the batch."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of each hidden layer's units that is dropped in training."""
    embedding_size: int = Field(8, ge=1)
    """Dimensions of the vector that a categorical value becomes."""
    number_bins: int = Field(16, ge=0)
    """Bins of each number, between quantiles of the training rows, by which the first hidden layer can bend its effect;
    fewer where columns are over a hundred, or cells of training rows over a million. 0: a number enters as its
    standard score alone."""
    members: int | None = Field(None, ge=1)
    """Networks that share all weights but scales of the inputs and the output layer, and are averaged: an ensemble at
    the price of wider layers. None: 8, and fewer from half a million cells of training rows on. Pictures: always 1."""
    ensemble: Annotated[int, Field(ge=1, le=100)] | Literal["folds"] = 1
    """Networks that are trained one after the other, with seeds from `training.seed` on. The model is their mean.
    `folds`: the mean of the models of the folds of `evaluation.cross_validation`, of which then none sees the
    evaluation split."""
    trees: TreesConfig = TreesConfig()

    @field_validator("kind", mode="before")
    @classmethod
    def _old_name_of_a_network(cls, kind: Any) -> Any:
        return "network" if kind == "tabular" else kind

    @field_validator("module")
    @classmethod
    def _old_name_of_the_default(cls, module: str | None) -> str | None:
        return DEFAULT_MODULE if module in ("models.tabular", "kubetfx.models.tabular") else module

    @model_validator(mode="before")
    @classmethod
    def _hidden_layers_of_images(cls, document: Any) -> Any:
        """Give images by themselves no hidden layers by default: the means of feature maps go to the head."""
        if isinstance(document, dict) and document.get("kind") == "image":
            return {"hidden_units": (), **document}
        return document

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        if self.kind == "trees" and self.num_networks > 1:
            raise ValueError(
                f"model.ensemble is of networks, and trees are the same with every seed. Received: kind: trees, "
                f"ensemble: {self.ensemble}. Leave it out, choose kind: auto or network, or take those of folds, which "
                "differ: ensemble: folds"
            )
        if self.kind == "image" and "embedding_size" in self.changed:
            raise ValueError("model.embedding_size is of categories, which images have none of")
        if self.kind == "image" and self.task != "classification":
            raise ValueError(
                "a folder of images has classes to predict, and no numbers. Received: model.task: "
                f"{self.task}. Put paths and numbers into a table, and name the column: features.image"
            )
        if self.kind in ("trees", "auto") and self.module not in (None, DEFAULT_MODULE):
            raise ValueError(
                f"model.module is a network of one's own. Received: model.module: {self.module}, model.kind: "
                f"{self.kind}. Set model.kind: network, or leave the module out"
            )
        if self.kind not in ("trees", "auto") and "trees" in self.changed:
            raise ValueError(f"model.trees are of model.kind: trees or auto. Received: model.kind: {self.kind}")
        if self.backbone is None and "weights" in self.changed:
            raise ValueError("model.weights are those of a backbone; name one, such as model.backbone: EfficientNetB0")
        if self.backbone is not None and self.filters:
            raise ValueError("model.filters are those of the small network, and model.backbone names another")
        return self

    @property
    def num_networks(self) -> int:
        """Networks of different seeds that one training makes."""
        return 1 if self.ensemble == "folds" else self.ensemble

    @property
    def image_keys(self) -> frozenset[str]:
        """Keys that were changed and say something of images alone."""
        return self.changed & {"image_size", "resize", "filters", "backbone", "weights", "augmentation", "top_k"}

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width that images are resized to, in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size
