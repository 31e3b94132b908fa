"""`${NAME}` in a pipeline.yaml."""

import os
from pathlib import Path

import pytest

from kubetfx.config.loading import load_config
from kubetfx.config.references import names_in, redacted, resolved
from kubetfx.errors import ConfigError
from kubetfx.redirection import logged_to

HOUSES = {"name": "houses", "data": {"path": "/houses", "label": "price"}}


def test_values_of_variables_are_put_into_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STAGE": "test", "EPOCHS": "5", "RATE": "0.01", "EMPTY": "", "ROOT": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        """
name: houses-${STAGE}
data:
  path: ${ROOT}/data-${STAGE}.csv
  label: price
  drop: ["$${STAGE}", "${EMPTY:-none}", "${UNSET:-a b}", "$STAGE", costs $5]
training: {epochs: "${EPOCHS}"}
"""
    )

    config = load_config(path, overrides=["training.learning_rate=${RATE}"])

    assert config.name == "houses-test"
    assert config.data.path == f"{tmp_path}/data-test.csv"
    assert config.data.drop == ("${STAGE}", "none", "a b", "$STAGE", "costs $5")
    assert (config.training.epochs, config.training.learning_rate) == (5, 0.01)


def test_all_that_is_wrong_is_said_with_key_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "open sesame")
    monkeypatch.setenv("URL", "https://example.com/a.csv?key=1")
    document = {
        "name": "${UNSET}",
        "data": {"path": "${URL}", "label": "price", "drop": ["a", "${not closed"]},
        "card": {"description": "with ${DB_PASSWORD}"},
    }

    with pytest.raises(ConfigError) as told:
        load_config(document)

    assert list(told.value.faults) == [
        "name: the environment variable UNSET is not set. Received: ${UNSET}. Set it, or give a default: "
        "${UNSET:-default}.",
        "data.path: the value would be stored in clear text. Received: ${URL}. A secret can be referred to in "
        "data.source_options, beam.options, beam.arguments, tuning.storage, tracking.mlflow, tracking.token, and in "
        "data.path after https://; programs in pods get secrets through kubeflow.every_component.secrets.",
        "data.drop.1: `${` must begin a reference to an environment variable, ${NAME} or ${NAME:-default}. Received: "
        "${not "
        "closed. For the literal characters write $${.",
        "card.description: the value would be stored in clear text. Received: with ${DB_PASSWORD}. A secret can be "
        "referred "
        "to in data.source_options, beam.options, beam.arguments, tuning.storage, tracking.mlflow, tracking.token, and "
        "in data.path after https://; programs in pods get secrets through kubeflow.every_component.secrets.",
    ]


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("PGPASSWORD", True),
        ("GITHUB_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("SHOP_PWD", True),
        ("api_key", True),
        ("TOKENIZER", False),
        ("STAGE", False),
        ("KEY_COLUMN", False),
    ],
)
def test_secrets_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch, name: str, is_secret: bool) -> None:
    monkeypatch.setenv(name, "value")
    document = {**HOUSES, "name": f"a-${{{name}}}"}
    if is_secret:
        with pytest.raises(ConfigError, match="would be stored in clear"):
            load_config(document)
    else:
        assert load_config(document).name == "a-value"


def test_references_in_keys_of_secrets_stay_references_until_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_TOKEN", "a b/c")
    config = load_config(
        {
            **HOUSES,
            "data": {"path": "https://me:${WEB_TOKEN}@example.com/a.csv", "label": "price"},
            "beam": {"arguments": ["--token=${WEB_TOKEN}", "--user=${WEB_USER:-me}", "--escaped=$${WEB_TOKEN}"]},
        }
    )

    assert config.data.path == "https://me:${WEB_TOKEN}@example.com/a.csv"
    assert names_in(config.model_dump()) == ["WEB_TOKEN"]
    assert resolved(config.beam.arguments, key="beam.arguments") == (
        "--token=a b/c",
        "--user=me",
        "--escaped=${WEB_TOKEN}",
    )
    assert (
        redacted("GET /?t=a%20b/c&u=a+b%2Fc with 'a b/c'") == "GET /?t=${WEB_TOKEN}&u=${WEB_TOKEN} with '${WEB_TOKEN}'"
    )
    with logged_to(tmp_path / "node.log"):
        os.write(1, b"token: a b/c\n\xff")
    assert (tmp_path / "node.log").read_bytes() == b"token: ${WEB_TOKEN}\n\xff"
    monkeypatch.delenv("WEB_TOKEN")
    with pytest.raises(ConfigError, match=r"beam\.arguments\.0: the environment variable WEB_TOKEN is not set"):
        resolved(config.beam.arguments, key="beam.arguments")


def test_a_password_in_a_url_is_refused_without_repeating_it() -> None:
    data = {"path": "https://me:sesame@example.com/a.csv", "label": "price"}
    with pytest.raises(ConfigError, match=r"data\.path: .* https://me:\$\{PASSWORD\}@example\.com/a\.csv") as told:
        load_config({**HOUSES, "data": data})
    assert "sesame" not in str(told.value)
