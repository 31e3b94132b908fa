"""The section `model`: the network and the trees."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from kubetfx.config.metric_catalogue import Task
from kubetfx.config.section import Section

DEFAULT_MODULE = "kubetfx.models.network"
"""The module of the network where `model.module` names none."""


Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Section):
    """How images are changed at random in training, each time again.

    A served model does not change images. 0 turns a change off.
    """

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Directions in which half of the images are mirrored."""
    rotation_degrees: float = Field(0, ge=0, le=180)
    """Largest rotation in degrees, in either direction."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest change of scale, up or down: 0.1 is 10 percent."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest shift, as a share of width and height."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0
    """Largest change of contrast, as a share."""
    brightness: Share = 0
    """Colour jitter: largest change of brightness, as a fraction of the intensity of white."""
    saturation: Share = 0
    """Colour jitter: largest change of saturation, as a share."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0
    """Colour jitter: largest change of hue, as a share of the colour circle."""
    noise: Share = 0
    """Largest standard deviation of noise, as a fraction of the intensity of white."""
    cutout: Share = 0
    """Largest edge of a square that is blanked out, as a share of the image's edge."""
    mixup: Share = 0
    """Alpha of the Beta distribution with which two images and their labels are mixed (mixup): 0.2 is usual."""


NO_PICTURES = (
    "Trees cannot use pictures. Received: model.kind: trees, and the column {column!r} of them. Set model.kind: "
    "network, "
    "or leave the column out, data.drop: [{column}]."
)


class TreesConfig(Section):
    """Boosted trees of LightGBM; the keys have LightGBM's names."""

    num_iterations: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of boosting rounds; each adds one tree, or one per class with more than two classes. None: 2,000,
    and fewer for very large training data.
    """
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Shrinkage of each tree. None: 0.05, or 0.1 with more than two classes, and more with fewer rounds."""
    num_leaves: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Maximum number of leaves of a tree. None: 31, and 15 with fewer than 3,000 training rows."""
    max_depth: int = Field(-1, ge=-1)
    """Maximum depth of a tree. -1: unlimited."""
    min_data_in_leaf: int = Field(20, ge=1)
    """Minimum number of training rows in a leaf."""
    feature_fraction: float = Field(1, gt=0, le=1)
    """Share of the columns, drawn at random, for each tree."""
    feature_fraction_bynode: float = Field(0.7, gt=0, le=1)
    """Share of those columns, drawn at random, for each split."""
    bagging_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the rows, drawn at random, for each tree. None: 0.8, and 0.5 for very large training data."""
    max_bin: Annotated[int, Field(ge=2, le=65_535)] | None = None
    """Maximum number of bins of a column, between which it is split. None: 255, and 63 for very large training data."""
    lambda_l1: float = Field(0, ge=0)
    """L1 regularisation of the leaves."""
    lambda_l2: float = Field(1, ge=0)
    """L2 regularisation of the leaves."""
    early_stopping_rounds: Annotated[int, Field(ge=1)] | None = None
    """Training stops after this many rounds without a lower validation loss, and the trees up to the best round are
    kept. None: 100, and fewer with a higher learning rate.
    """


class ModelConfig(Section):
    """The model."""

    kind: Literal["network", "trees", "auto", "image"] = "network"
    """`trees`: boosted trees. `auto`: both a network and trees are trained, and the better one, or their average, is
    used. `image` is implied by `data.format: images`.
    """
    image_size: (
        Annotated[int, Field(ge=8, le=4096)]
        | tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]]
    ) = 64
    """For images: size in pixels to which each is resized, one number for a square or [height, width]."""
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    """For images with another aspect ratio: `pad` adds black borders, `crop` cuts out the centre, `stretch`
    distorts.
    """
    filters: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """For the small network for images: channels of each block; every block but the first halves the image. Empty:
    chosen from the size.
    """
    backbone: str | None = None
    """For images: a network of keras.applications by its class, for example EfficientNetB0. Default: a small network of
    kubetfx.
    """
    weights: str = "imagenet"
    """For a backbone: `imagenet`, `none`, or the path of a .weights.h5 file."""
    augmentation: AugmentationConfig = AugmentationConfig()
    top_k: int = Field(5, ge=1)
    """For images: number of most likely classes that a served model returns; also the k of `top_k_accuracy`."""
    task: Task = "classification"
    """`classification` for two classes or more, `regression` for a number."""
    module: str | None = None
    """Your own module instead of kubetfx.models.network, by import path: installed, or beside pipeline.yaml. It has the
    same two functions, preprocessing_fn(inputs, custom_config) and build_model(...), for images too.
    """
    hidden_units: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    """Units of each hidden layer. For images alone, or text alone, there are no hidden layers by default."""
    activation: Literal["elu", "gelu", "leaky_relu", "mish", "relu", "selu", "silu", "tanh"] = "relu"
    """Activation of the hidden layers, as Keras names it."""
    batch_normalization: bool = False
    """Whether each hidden layer has batch normalisation."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of each hidden layer's units that is dropped in training."""
    embedding_size: int = Field(8, ge=1)
    """Dimensions of the embedding of a categorical value."""
    number_bins: int = Field(16, ge=0)
    """Number of piecewise-linear bins of each numeric column, between quantiles of the training rows, which let the
    first hidden layer learn a nonlinear effect; fewer with over a hundred columns, or over a million cells of training
    data. 0: only the standard score is used.
    """
    members: int | None = Field(None, ge=1)
    """Number of networks that share all weights except the scales of the inputs and the output layer, and are averaged:
    an ensemble at the cost of wider layers. None: 8, and fewer from half a million cells of training data on. Pictures:
    always 1.
    """
    ensemble: Annotated[int, Field(ge=1, le=100)] | Literal["folds"] = 1
    """Number of networks that are trained one after the other, with consecutive seeds from `training.seed` on; the
    model is their mean. `folds`: the mean of the models of the folds of `evaluation.cross_validation`, none of which
    then sees the evaluation split.
    """
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
                f"model.ensemble averages networks, and trees are the same with every seed. Received: kind: trees, "
                f"ensemble: {self.ensemble}. Leave it out, choose kind: auto or network, or average the "
                "models of folds: ensemble: folds"
            )
        if self.kind == "image" and "embedding_size" in self.changed:
            raise ValueError("model.embedding_size applies to categories, and images have no categories. Leave it out")
        if self.kind == "image" and self.task != "classification":
            raise ValueError(
                "a folder of images supports classification only. Received: model.task: "
                f"{self.task}. Put paths and numbers into a table, and name the column: features.image"
            )
        if self.kind in ("trees", "auto") and self.module not in (None, DEFAULT_MODULE):
            raise ValueError(
                f"model.module is your own network. Received: model.module: {self.module}, model.kind: "
                f"{self.kind}. Set model.kind: network, or leave the module out"
            )
        if self.kind not in ("trees", "auto") and "trees" in self.changed:
            raise ValueError(
                f"model.trees requires model.kind: trees or auto. Received: model.kind: {self.kind}. Set "
                f"one of them, or leave model.trees out"
            )
        if self.backbone is None and "weights" in self.changed:
            raise ValueError(
                "model.weights requires a backbone. Received: no model.backbone. Name one, such as "
                "model.backbone: EfficientNetB0"
            )
        if self.backbone is not None and self.filters:
            raise ValueError(
                "model.filters applies to the small network, and model.backbone names another. Leave one of them out"
            )
        return self

    @property
    def num_networks(self) -> int:
        """Number of networks with different seeds in one training."""
        return 1 if self.ensemble == "folds" else self.ensemble

    @property
    def image_keys(self) -> frozenset[str]:
        """Keys with other values than the default that apply to images only."""
        return self.changed & {"image_size", "resize", "filters", "backbone", "weights", "augmentation", "top_k"}

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width that images are resized to, in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else size
