"""The Experiment for Katib, against the resource definition and the types that Katib publishes."""

import re

import jsonschema
import pytest
import yaml

from kubetfx.config.loading import load_config
from kubetfx.errors import ConfigError
from kubetfx.kubeflow import katib
from tests.kubeflow.published_schemas import schema

DOCUMENT = {
    "name": "houses",
    "data": {"path": "/data/houses.csv", "label": "sold"},
    "tuning": {
        "trials": 12,
        "parallel": 3,
        "metric": "auc",
        "search": {
            "training.learning_rate": {"log": [1e-4, 1e-2]},
            "training.batch_size": {"range": [32, 256], "step": 32},
            "model.hidden_units": [[64], [128, 64]],
            "training.optimizer": ["adam", "sgd"],
        },
    },
    "kubeflow": {
        "image": "registry.example/kubetfx:1",
        "every_component": {"volumes": [{"claim": "data", "mount_path": "/data"}]},
        "resources": {"Trainer": {"cpu": "4", "memory": "8Gi", "gpu": {"count": 1}}},
    },
}


@pytest.fixture
def manifest(tmp_path):
    katib.write_experiment(load_config(DOCUMENT), tmp_path / "katib.yaml")
    return list(yaml.safe_load_all((tmp_path / "katib.yaml").read_text()))


def test_manifest_is_what_katib_publishes(manifest):
    _, experiment = manifest
    definition = schema("katib-experiments-crd.yaml")["spec"]
    (version,) = (one for one in definition["versions"] if one["served"])
    assert experiment["apiVersion"] == f"{definition['group']}/{version['name']}"
    assert experiment["kind"] == definition["names"]["kind"]
    jsonschema.validate(
        experiment, version["schema"]["openAPIV3Schema"]
    )  # which keeps unknown fields: the types say more

    types = schema("katib-swagger.json")
    known = {name: closed(type_, types["definitions"]) for name, type_ in types["definitions"].items()}
    root = {"$ref": "#/definitions/v1beta1.ExperimentSpec", "definitions": known}
    jsonschema.validate(experiment["spec"], root)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**experiment["spec"], "maxTrials": 3}, root)


def closed(type_, known):
    """A type in which an unknown field is an error; what is Kubernetes' own is left open."""
    own = dict(type_)
    properties = {
        name: {} if value.get("$ref", "").rpartition("/")[2] not in known and "$ref" in value else value
        for name, value in own.get("properties", {}).items()
    }
    return {**own, "properties": properties, "additionalProperties": False} if properties else own


def test_parameters_are_the_space(manifest):
    spec = manifest[1]["spec"]

    spaces = [(one["parameterType"], one["feasibleSpace"]) for one in spec["parameters"]]
    assert spaces == [
        ("double", {"min": "0.0001", "max": "0.01", "distribution": "logUniform"}),
        ("int", {"min": "32", "max": "256", "step": "32"}),
        ("categorical", {"list": ["[64]", "[128,64]"]}),
        ("categorical", {"list": ["adam", "sgd"]}),
    ]
    assert (spec["maxTrialCount"], spec["parallelTrialCount"], spec["objective"]["type"]) == (12, 3, "maximize")


def test_trial_is_a_command_that_can_be_run_with_any_of_the_values(manifest):
    config_map, experiment = manifest
    template = experiment["spec"]["trialTemplate"]
    container = template["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}

    values = {one["name"]: one["feasibleSpace"] for one in experiment["spec"]["parameters"]}
    drawn = {name: space["list"][-1] if "list" in space else space["max"] for name, space in values.items()}
    words = [
        re.sub(r"\$\{trialParameters\.(\w+)\}", lambda found: drawn[found[1]], word) for word in container["command"]
    ]
    assert words[:5] == ["python", "-m", "kubetfx", "tune", "/etc/kubetfx/pipeline.yaml"]
    overrides = [word for word, before in zip(words[1:], words, strict=False) if before == "--set"]
    config = load_config(yaml.safe_load(config_map["data"]["pipeline.yaml"]), overrides=overrides)
    assert (config.training.learning_rate, config.training.batch_size) == (0.01, 256)
    assert (config.model.hidden_units, config.training.optimizer) == ((128, 64), "sgd")
    assert config.tuning.most_trials == 1


def test_metric_is_found_in_what_the_command_prints(manifest):
    (pattern,) = manifest[1]["spec"]["metricsCollectorSpec"]["source"]["filter"]["metricsFormat"]
    said = "auc on the validation rows: 0.7788 at best. 1 trials."

    assert re.search(pattern, said).groups() == ("auc", "0.7788")


def test_search_without_a_space_is_refused():
    config = load_config({**DOCUMENT, "tuning": {"trials": 3}})
    with pytest.raises(ConfigError, match=r"tuning\.search: Katib draws settings before the data is read"):
        katib.experiment(config)


def test_pod_of_a_trial_has_what_the_config_says_of_pods():
    task = {
        "tolerations": [{"key": "busy", "operator": "Exists", "effect": "NoExecute", "toleration_seconds": 60}],
        "secrets": [{"name": "keys", "env": {"key": "AWS_ACCESS_KEY_ID"}, "mount_path": "/keys", "optional": True}],
        "config_maps": [{"name": "places", "mount_path": "/places"}],
        "shared_memory": "1Gi",
        "labels": {"team": "birds"},
        "annotations": {"why": "a reason"},
    }
    kubeflow = {
        "every_component": task,
        "pod_security": "restricted",
        "image_pull_policy": "Always",
        "image_pull_secrets": ["registry"],
    }

    _, experiment = katib.experiment(load_config({**DOCUMENT, "kubeflow": kubeflow}))

    template = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert pod["tolerations"] == [{"key": "busy", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (container["imagePullPolicy"], pod["imagePullSecrets"]) == ("Always", [{"name": "registry"}])
    assert (template["metadata"]["labels"], template["metadata"]["annotations"]["why"]) == (task["labels"], "a reason")
    (variable,) = container["env"]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "key", "optional": True}}
    volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
    assert volumes["keys"] == {"secret": {"secretName": "keys", "optional": True}}
    assert volumes["places"] == {"configMap": {"name": "places", "optional": False}}
    assert volumes["shared-memory"] == {"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {
        "pipeline": "/etc/kubetfx",
        "keys": "/keys",
        "places": "/places",
        "shared-memory": "/dev/shm",
    }
