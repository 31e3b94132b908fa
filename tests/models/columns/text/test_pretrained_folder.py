"""Folders of Hugging Face and KerasHub: what is read is what their own libraries answer with, and what is refused."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file
from tensorflow_transform import annotators

from kubetfx.errors import ConfigError
from kubetfx.models.columns.text.pretrained_folder import PretrainedFolder
from kubetfx.models.columns.text.transformer import Transformer
from kubetfx.storage import ObjectPath

REFERENCES = Path(__file__).parent / "references"
KINDS = ("bert", "distilbert", "roberta", "keras_hub_bert", "keras_hub_distilbert", "keras_hub_roberta")


def tokens_of(folder: PretrainedFolder, texts: list[str], *, length: int) -> np.ndarray:
    with annotators.object_tracker_scope(annotators.ObjectTracker()):
        return folder.tokens(tf.constant(texts), length=length).numpy()


def vectors_of(folder: PretrainedFolder, tokens: np.ndarray) -> np.ndarray:
    inputs = keras.Input((1, tokens.shape[1]), dtype="int64")
    layer = Transformer("tokens", folder.shape)
    model = keras.Model(inputs, layer(inputs))
    layer.load(folder.weights())
    return model.predict_on_batch(tokens[:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_vectors_are_those_of_the_models_own_library(kind: str) -> None:
    expected = json.loads((REFERENCES / kind / "expected.json").read_text(encoding="utf-8"))
    folder = PretrainedFolder(str(REFERENCES / kind))
    tokens = tokens_of(folder, expected["texts"], length=len(expected["tokens"][0]))
    wanted = np.array(expected["tokens"]) + 1
    np.testing.assert_array_equal(tokens, np.where(wanted == folder.tokenizer.frame.padding + 1, 0, wanted))
    np.testing.assert_allclose(vectors_of(folder, tokens), expected["vectors"], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "keras_hub_roberta"])
def test_a_folder_in_a_bucket_is_read(kind: str, bucket: ObjectPath) -> None:
    for file in filter(Path.is_file, (REFERENCES / kind).rglob("*")):
        (bucket / kind / str(file.relative_to(REFERENCES / kind))).upload(file)
    found, expected = PretrainedFolder(str(bucket / kind)), PretrainedFolder(str(REFERENCES / kind))
    assert found.tokenizer == expected.tokenizer
    weights = expected.weights()
    assert all(np.array_equal(weights[name], values) for name, values in found.weights().items())


@pytest.mark.parametrize(
    ("kind", "name"),
    [("keras_hub_bert", "vocabulary.txt"), ("keras_hub_roberta", "merges.txt")],
    ids=["vocabulary", "merges"],
)
def test_files_with_the_line_ends_of_windows_are_read(kind: str, name: str, tmp_path: Path) -> None:
    file = _copy(kind, tmp_path) / "assets/tokenizer" / name
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert PretrainedFolder(str(tmp_path / kind)).tokenizer == PretrainedFolder(str(REFERENCES / kind)).tokenizer


def test_files_of_older_libraries_are_read(tmp_path: Path) -> None:
    folder = _copy("bert", tmp_path)
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    numbers = document["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(numbers, key=numbers.__getitem__)) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "cls_token": {"content": "[CLS]"}}')
    weights = load_file(folder / "model.safetensors")
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in weights.items()
    }
    save_file(old, folder / "model.safetensors")
    found, expected = PretrainedFolder(str(folder)), PretrainedFolder(str(REFERENCES / "bert"))
    assert found.tokenizer == expected.tokenizer
    assert all(np.array_equal(values, found.weights()[name]) for name, values in expected.weights().items())


def test_byte_pairs_in_files_of_their_own_are_read(tmp_path: Path) -> None:
    folder = _copy("roberta", tmp_path)
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(document["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in document["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    found, expected = PretrainedFolder(str(folder)), PretrainedFolder(str(REFERENCES / "roberta"))
    assert found.tokenizer == expected.tokenizer


# What is refused


def _copy(kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(REFERENCES / kind, folder / kind))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _with(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: bool((folder / name).write_bytes(content))


def _changed(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        change(document)
        (folder / name).write_text(json.dumps(document))

    return apply


def _other_weights(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return apply


class _Program:
    """What a pickle may do."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("bert", _with("pytorch_model.bin", pickle.dumps(_Program())), "has a pickle.*pytorch_model.bin.*Remove it"),
        ("keras_hub_bert", _with("weights.pkl", pickle.dumps(_Program())), "has a pickle.*weights.pkl"),
        ("bert", _without("config.json"), "lacks config.json, which has the sizes.*Received: .*tokenizer.json"),
        ("bert", _without("model.safetensors"), "lacks model.safetensors, which has the weights"),
        ("bert", _without("tokenizer.json"), "no tokenizer that is understood.*none of tokenizer.json, vocab.txt"),
        ("keras_hub_bert", _without("model.weights.h5"), "lacks model.weights.h5, which has the weights"),
        ("keras_hub_bert", _without("tokenizer.json"), "lacks tokenizer.json, which has the tokenizer"),
        ("keras_hub_bert", _without("assets/tokenizer/vocabulary.txt"), "lacks assets/tokenizer/vocabulary.txt"),
        ("keras_hub_roberta", _without("assets/tokenizer/merges.txt"), "lacks assets/tokenizer/merges.txt"),
        ("bert", _with("config.json", b"{"), "config.json is not JSON"),
        ("bert", _with("config.json", b"[]"), "config.json is not a JSON object"),
        ("bert", _with("config.json", b"\xff"), "config.json is not text in UTF-8"),
        ("bert", _with("model.safetensors", b"\x80\x02"), "model.safetensors cannot be read"),
        ("keras_hub_bert", _with("model.weights.h5", b"\x80\x02"), "model.weights.h5 cannot be read"),
        ("bert", _changed("config.json", lambda c: c.update(model_type="gpt2")), "another architecture.*'gpt2'"),
        ("bert", _changed("config.json", lambda c: c.pop("hidden_size")), "config.json lacks a key.*no 'hidden_size'"),
        (
            "bert",
            _changed("config.json", lambda c: c.update(hidden_size=None)),
            "config.json has a wrong value: hidden_size: input should be a valid integer.*Received: .*: None",
        ),
        ("bert", _changed("config.json", lambda c: c.update(num_attention_heads=3)), "sizes of the model do not go.*3"),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t["model"].pop("vocab")),
            "tokenizer.json lacks a key.*no 'model.vocab'",
        ),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t["normalizer"].update(clean_text=False)),
            "leaves a step out.*clean_text: false",
        ),
        ("bert", _changed("config.json", lambda c: c.update(hidden_act="silu")), "layers that BERT has not.*'silu'"),
        ("bert", _changed("config.json", lambda c: c.update(num_hidden_layers=3)), "no encoder.layer.2"),
        ("bert", _changed("config.json", lambda c: c.update(hidden_size=16)), r"shape \(.*8\), not \(.*16\)"),
        ("bert", _changed("config.json", lambda c: c.update(vocab_size=100)), "tokenizer is that of another model"),
        ("bert", _other_weights(lambda a: a.pop(QUERY)), f"weights in model.safetensors are of another.*no {QUERY}"),
        ("bert", _other_weights(lambda a: a.update({QUERY: np.zeros((8, 4))})), "the shape"),
        (
            "keras_hub_bert",
            _changed("config.json", lambda c: c.update(class_name="Lambda", registered_name=None)),
            "another architecture.*'Lambda'.*are not executed",
        ),
        (
            "keras_hub_bert",
            _changed("config.json", lambda c: c["config"].pop("num_heads")),
            "lacks a key.*'config.num_heads'",
        ),
        (
            "keras_hub_bert",
            _changed("config.json", lambda c: c["config"].update(num_layers=4)),
            "no layers/transformer",
        ),
        (
            "keras_hub_bert",
            _changed("tokenizer.json", lambda t: t.update(class_name="XLMRobertaTokenizer")),
            "tokenizer is of another model.*XLMRobertaTokenizer",
        ),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t["model"].update(type="Unigram", vocab=[["a", -1.0]])),
            "another kind than BERT's WordPiece.*model Unigram",
        ),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t.update(pre_tokenizer={"type": "Metaspace"})),
            "another kind.*pre_tokenizer Metaspace",
        ),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t["added_tokens"].append({"id": 120, "content": "kubetfx"})),
            "tokens that were added.*'kubetfx'",
        ),
        (
            "bert",
            _changed("tokenizer.json", lambda t: t["model"]["vocab"].update(far=999)),
            "not numbered from 0 on",
        ),
        (
            "roberta",
            _changed("tokenizer.json", lambda t: t["model"]["merges"].append(["zzz", "zzz"])),
            "do not belong together.*'zzz zzz'",
        ),
        (
            "keras_hub_bert",
            _with("assets/tokenizer/vocabulary.txt", b"[UNK]\n[CLS]\n[SEP]\nword\n"),
            r"lacks a token that stands for no word.*no \[PAD\]",
        ),
        (
            "keras_hub_roberta",
            _changed("assets/tokenizer/vocabulary.json", lambda v: (v.pop("<s>"), v.update({"other": 0}))),
            "lacks a token that stands for no word.*no <s>",
        ),
    ],
)
def test_what_is_not_understood_is_refused_in_words(
    kind: str, spoil: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copy(kind, tmp_path)
    spoil(folder)
    monkeypatch.chdir(tmp_path)
    pretrained = PretrainedFolder(str(folder))
    with pytest.raises(ConfigError, match=f"(?s)^features.text_encoder.pretrained: .*{message}") as raised:
        (pretrained.shape, pretrained.weights())
    assert "Received: " in str(raised.value)
    assert not Path("executed").exists()


def _put(name: str, path: str, value: Any) -> Callable[[Path], None]:
    """Spoil the value of a dotted key."""

    def change(document: dict[str, Any]) -> None:
        *parts, last = path.split(".")
        for part in parts:
            document = document[part]
        document[last] = value

    return _changed(name, change)


CONFIG, TOKENIZER, OPTIONS = "config.json", "tokenizer.json", "tokenizer_config.json"


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        pytest.param(kind, spoil, message, id=f"{kind} {name}")
        for name, kind, spoil, message in [
            ("endless layers", "bert", _put(CONFIG, "num_hidden_layers", float("inf")), "num_hidden_layers: .*: inf"),
            (
                "million layers",
                "bert",
                _put(CONFIG, "num_hidden_layers", 10**6),
                "num_hidden_layers: .*1000.*: 1000000",
            ),
            ("true layers", "bert", _put(CONFIG, "num_hidden_layers", True), "num_hidden_layers: .*integer.*: True"),
            ("no layers", "distilbert", _put(CONFIG, "n_layers", 0), "n_layers: .*greater.*: 0"),
            ("text of layers", "distilbert", _put(CONFIG, "n_layers", "2"), "n_layers: .*valid integer.*: '2'"),
            ("no heads", "bert", _put(CONFIG, "num_attention_heads", 0), "num_attention_heads: .*greater.*: 0"),
            ("vocabulary", "bert", _put(CONFIG, "vocab_size", 10**12), "vocab_size: .*less than.*: 1000000000000"),
            (
                "digits",
                "bert",
                _with(CONFIG, b'{"model_type": "bert", "vocab_size": ' + b"9" * 5000 + b"}"),
                "vocab_size|not JSON",
            ),
            (
                "depth",
                "bert",
                _with(CONFIG, b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
                "config.json is not JSON.*recursion",
            ),
            ("kinds", "bert", _put(CONFIG, "model_type", ["bert"]), r"model_type: .*valid string.*: \['bert'\]"),
            ("activations", "bert", _put(CONFIG, "hidden_act", ["gelu"]), "hidden_act: .*valid string"),
            ("epsilon below 0", "bert", _put(CONFIG, "layer_norm_eps", -1), "layer_norm_eps: .*greater than 0.*: -1"),
            ("epsilon", "bert", _put(CONFIG, "layer_norm_eps", float("nan")), "layer_norm_eps: .*finite.*: nan"),
            ("padding", "roberta", _put(CONFIG, "pad_token_id", "x"), "pad_token_id: .*valid integer.*: 'x'"),
            ("far padding", "roberta", _put(CONFIG, "pad_token_id", 10**6), "sizes of the model do not go together"),
            ("options", "bert", _with(OPTIONS, b'{"cls_token": {"a": 1}}'), "cls_token: .*string.*: {'a': 1}"),
            ("first token", "bert", _with(OPTIONS, b'{"cls_token": 5}'), "cls_token: .*string.*: 5"),
            ("case", "bert", _with(OPTIONS, b'{"do_lower_case": "no"}'), "do_lower_case: .*boolean.*: 'no'"),
            (
                "length of a word",
                "bert",
                _put(TOKENIZER, "model.max_input_chars_per_word", "x"),
                "model.max_input_chars_per_word: .*: 'x'",
            ),
            (
                "no merges",
                "roberta",
                _changed(TOKENIZER, lambda t: t["model"].pop("merges")),
                "lacks a key.*'model.merges'",
            ),
            ("null merges", "roberta", _put(TOKENIZER, "model.merges", None), "model.merges: .*: None"),
            ("merges of numbers", "roberta", _put(TOKENIZER, "model.merges", [1, 2]), "model.merges.0: .*string.*: 1"),
            ("nested merges", "roberta", _put(TOKENIZER, "model.merges", [[1, 2]]), r"model.merges.0: .*: \[1, 2\]"),
            (
                "endless layers",
                "keras_hub_bert",
                _put(CONFIG, "config.num_layers", float("inf")),
                "config.num_layers: .*: inf",
            ),
            ("sizes", "keras_hub_bert", _put(CONFIG, "config", [1]), r"config: .*object.*: \[1\]"),
            ("nothing", "keras_hub_bert", _with(CONFIG, b'{"class_name": "BertBackbone"}'), "lacks a key.*'config'"),
            ("class", "keras_hub_bert", _put(CONFIG, "class_name", 5), "class_name: .*string.*: 5"),
            (
                "options",
                "keras_hub_bert",
                _put(TOKENIZER, "config", [1]),
                r"tokenizer.json has a wrong value: config: .*: \[1\]",
            ),
            (
                "numbers",
                "keras_hub_roberta",
                _with("assets/tokenizer/vocabulary.json", b'{"a": "0"}'),
                "a: .*integer.*: '0'",
            ),
            ("list", "keras_hub_roberta", _with("assets/tokenizer/vocabulary.json", b"[]"), "not a JSON object"),
            *(
                damage
                for kind in ("bert", "roberta")
                for damage in (
                    ("model", kind, _put(TOKENIZER, "model", [1]), r"model: .*object.*: \[1\]"),
                    ("normalizer", kind, _put(TOKENIZER, "normalizer", "x"), "normalizer: .*object.*: 'x'"),
                    ("added number", kind, _put(TOKENIZER, "added_tokens", [5]), "added_tokens.0: .*object.*: 5"),
                    ("added nothing", kind, _put(TOKENIZER, "added_tokens", [{"id": 0}]), "'added_tokens.0.content'"),
                    ("vocabulary list", kind, _put(TOKENIZER, "model.vocab", ["a", "b"]), "model.vocab: "),
                    ("no vocabulary", kind, _put(TOKENIZER, "model.vocab", None), "model.vocab: .*: None"),
                    ("vocabulary of text", kind, _put(TOKENIZER, "model.vocab.zzz", "x"), "model.vocab.zzz: .*: 'x'"),
                )
            ),
            (
                "infinite",
                "bert",
                _other_weights(lambda a: a.update({QUERY: np.full((8, 8), np.nan)})),
                f"infinite or not a number.*: 64 of 64 in {QUERY}",
            ),
            (
                "bytes cut off",
                "keras_hub_bert",
                lambda folder: os.truncate(folder / "model.weights.h5", 2000),
                "model.weights.h5 cannot be read",
            ),
        ]
    ],
)
def test_damage_is_named_by_file_key_and_value(
    kind: str, spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = _copy(kind, tmp_path)
    spoil(folder)
    pretrained = PretrainedFolder(str(folder))
    with pytest.raises(ConfigError, match=f"(?s)^features.text_encoder.pretrained: .*{message}") as raised:
        (pretrained.shape, pretrained.weights())
    assert re.search(r"Received: .*\. (Copy|Take) ", str(raised.value))


def test_a_token_that_comes_twice_is_named(tmp_path: Path) -> None:
    folder = _copy("keras_hub_bert", tmp_path)
    file = folder / "assets/tokenizer/vocabulary.txt"
    file.write_text(file.read_text(encoding="utf-8").rstrip("\n") + "\n[UNK]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"the vocabulary has a token twice\. Received: .*'\[UNK\]'"):
        _ = PretrainedFolder(str(folder)).tokenizer


def test_one_of_sentencepiece_is_named(tmp_path: Path) -> None:
    folder = _copy("roberta", tmp_path)
    (folder / "tokenizer.json").rename(folder / "sentencepiece.bpe.model")
    with pytest.raises(ConfigError, match=r"but sentencepiece\.bpe\.model.*SentencePiece is not understood"):
        _ = PretrainedFolder(str(folder)).tokenizer


@pytest.mark.parametrize("place", ["nowhere", "ftp://host/model"])
def test_a_folder_that_is_not_there_is_named(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"features.text_encoder.pretrained: .*Received: {place}"):
        _ = PretrainedFolder(place).shape
