"""The settings that are searched, as Optuna draws them, and as TFX's HyperParameters have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.tunable_keys import is_integer
from kubetfx.config.tuning_section import Interval, Values
from kubetfx.models.tuned_settings import Scalar, decoded, encoded

if TYPE_CHECKING:  # they are imported where a search is made
    import optuna


_DIGITS = 4
"""Significant ones of a drawn number."""


@dataclass(frozen=True)
class SearchSpace:
    """Which values each key may have."""

    search: Mapping[str, Values]
    """By dotted key, as in `tuning.search`."""

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """Draw the settings of a trial.

        Args:
            trial: to which Optuna gives values.

        Returns:
            Values by dotted key.
        """
        return self.settings({key: self._suggested(trial, key, values) for key, values in self.search.items()})

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that a trial had.

        Args:
            parameters: The parameters of the trial, as Optuna keeps them.
        """
        return {key: self._as_set(key, value) for key, value in parameters.items()}

    def _as_set(self, key: str, value: Any) -> Any:
        """Return a value as used in training and output, rounded to significant digits."""
        if isinstance(self.search[key], Interval):
            return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
        return decoded(value, key)

    def _suggested(self, trial: "optuna.Trial", key: str, values: Values) -> Any:
        if not isinstance(values, Interval):
            return trial.suggest_categorical(key, _choices(values))
        low, high, step = _bounds(values, key)
        is_log = values.log is not None
        if is_integer(key, PipelineConfig):
            return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=is_log)
        return trial.suggest_float(key, low, high, step=step, log=is_log)

    def hyperparameters(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the best settings as a config of KerasTuner's HyperParameters.

        TFX's Tuner writes it, and its Trainer reads it.

        Args:
            settings: the best ones, by dotted key.
        """
        import keras_tuner

        found = keras_tuner.HyperParameters()
        for key, values in self.search.items():
            if not isinstance(values, Interval):
                found.Choice(key, _of_one_type(_choices(values)))
                continue
            low, high, step = _bounds(values, key)
            sampling = "log" if values.log else "linear"
            if is_integer(key, PipelineConfig):
                found.Int(key, int(low), int(high), step=None if values.log else int(step or 1), sampling=sampling)
            else:
                found.Float(key, low, high, step=step, sampling=sampling)
        config: dict[str, Any] = found.get_config()
        return {**config, "values": {key: encoded(value) for key, value in settings.items()}}


def _bounds(interval: Interval, key: str) -> tuple[float, float, float | None]:
    """Return the lowest and highest number that are drawn, and the step."""
    low, high = interval.bounds
    step = interval.step
    if step is None:
        return low, high, None
    return low, round(low + int((high - low) / step + 1e-9) * step, 12), step


def _choices(values: tuple[Any, ...]) -> list[Scalar]:
    """Return the values of a list, each once."""
    return list(dict.fromkeys(encoded(value) for value in values))


def _of_one_type(choices: list[Scalar]) -> list[Scalar]:
    """Convert values to one type, since KerasTuner does not accept mixtures."""
    kinds = {type(choice) for choice in choices}
    if len(kinds) == 1:
        return choices
    return [float(choice) for choice in choices] if kinds == {int, float} else [str(choice) for choice in choices]
