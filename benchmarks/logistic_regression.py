"""A logistic regression on the examples of a finished run: what the network's score is to be compared with.

It sees the same rows, split in the same way, and the same columns in the same roles: one-hot categories, none of them
hashed, and standard scores.
"""

from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tensorflow_metadata.proto.v0 import schema_pb2

from kubetfx.models.examples import files_in, read_blocks
from kubetfx.models.features import Features, read_features, read_schema

INVERSE_PENALTIES = (1.0, 0.3, 0.1, 0.03)


def auc(workspace: Path) -> float:
    """Return the area under the ROC curve on the `eval` split, with the penalty that is best on the `validation` split.

    Args:
        workspace: The workspace of a run of a pipeline with two classes and no missing cells.
    """
    (schema_path,) = workspace.glob("artifacts/SchemaGen/schema/*/schema.pbtxt")
    schema = read_schema(schema_path)
    features = read_features(schema)
    train, validation, held_out = (_rows(workspace, split, schema) for split in ("train", "validation", "eval"))
    for rows in (train, validation, held_out):
        rows[features.label] = rows[features.label] == features.classes[1]
    models = [_fit(train, features, inverse_penalty) for inverse_penalty in INVERSE_PENALTIES]
    best = max(models, key=lambda model: _auc(model, validation, label=features.label))
    return _auc(best, held_out, label=features.label)


def _rows(workspace: Path, split: str, schema: schema_pb2.Schema) -> pd.DataFrame:
    columns = [feature.name for feature in schema.feature]
    files = files_in(*workspace.glob(f"artifacts/TableExampleGen/examples/*/Split-{split}"))
    return pd.concat((block.to_pandas() for block in read_blocks(files, columns)), ignore_index=True)


def _fit(rows: pd.DataFrame, features: Features, inverse_penalty: float) -> Pipeline:
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), [*features.vocabulary, *features.hashed]),
            ("numbers", StandardScaler(), [*features.numeric]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(C=inverse_penalty, max_iter=1_000))
    return model.fit(rows, rows[features.label])


def _auc(model: Pipeline, rows: pd.DataFrame, *, label: str) -> float:
    return float(roc_auc_score(rows[label], model.predict_proba(rows)[:, 1]))
