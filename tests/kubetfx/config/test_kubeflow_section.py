"""The `kubeflow` section: what a task's pod is like."""

from pathlib import Path

import pytest
import yaml

from kubetfx.config.kubeflow_section import KubeflowConfig
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError


@pytest.fixture
def load(tmp_path: Path):
    def load_kubeflow(**kubeflow) -> PipelineConfig:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump({"name": "p", "data": {"path": "d", "label": "y"}, "kubeflow": kubeflow}))
        return load_config(path)

    return load_kubeflow


def test_numbers_are_quantities_too(load):
    trainer = load(resources={"Trainer": {"cpu": 4, "memory": 1024, "requests": {"cpu": 0.5}}}).kubeflow.of_component(
        "Trainer"
    )

    assert (trainer.cpu, trainer.memory, trainer.requests.cpu) == ("4", "1024", "0.5")


@pytest.mark.parametrize(
    ("memory", "request_"),
    [("1G", "1000M"), ("1Gi", "1024Mi"), ("1Ki", 1024), ("2G", "1Gi")],
    ids=str,
)
def test_request_may_be_all_of_the_limit(load, memory, request_):
    load(every_component={"memory": memory, "requests": {"memory": request_}})


@pytest.mark.parametrize(
    ("kubeflow", "message"),
    [
        (
            {"resources": {"Trainr": {"cpu": 1}}},
            r"kubeflow\.resources: unknown component 'Trainr'\. Did you mean 'Trainer'\? Known: TableExampleGen",
        ),
        ({"fuse": [["SchemaGen", "Pushr"]]}, r"kubeflow\.fuse: unknown component 'Pushr'\. Did you mean 'Pusher'"),
        ({"fuse": [["SchemaGen"], ["SchemaGen", "Pusher"]]}, r"in one group only\. Received: SchemaGen twice"),
        ({"resources": {"Trainer": {"memory": "16 GB"}}}, r"memory: a Kubernetes quantity .*16Gi.* Received: '16 GB'"),
        ({"resources": {"Trainer": {"memory": "500K"}}}, r"memory: a Kubernetes quantity .* Received: '500K'"),
        (
            {"every_component": {"cpu": "500m"}, "resources": {"Trainer": {"requests": {"cpu": 1}}}},
            r"resources\.Trainer\.requests\.cpu is more than resources\.Trainer\.cpu.*Received: 1 and 500m",
        ),
        (
            {"every_component": {"memory": "1000M", "requests": {"memory": "1Gi"}}},
            r"every_component\.requests\.memory is more than every_component\.memory.*Received: 1Gi and 1000M",
        ),
        ({"resources": {"Trainer": {"retries": {"backoff_factor": 1.5}}}}, r"backoff_factor: .*Received: 1\.5"),
        (
            {"resources": {"Trainer": {"retries": {"max_backoff_seconds": 60}}}},
            r"retries\.max_backoff_seconds: unknown key.*Known here: .*deadline_seconds",
        ),
        ({"resources": {"Trainer": {"cpu": "four"}}}, r"cpu: a Kubernetes quantity is needed.* Received: 'four'"),
        ({"resources": {"Trainer": {"cpu": 0}}}, r"cpu: a Kubernetes quantity is needed.* Received: '0'"),
        ({"resources": {"Trainer": {"cpu": True}}}, r"resources\.Trainer\.cpu: .*Received: 'true'"),
        ({"resources": {"Trainer": {"gpu": {"resource": "NVIDIA_TESLA_K80"}}}}, r"gpu\.resource: .*'NVIDIA_TESLA_K80'"),
        ({"resources": {"Trainer": {"gpus": 1}}}, r"resources\.Trainer\.gpus: unknown key.*'gpu'"),
        ({"every_component": {"gpu": {}}}, r"every_component\.gpu would leave GPUs idle"),
        (
            {"resources": {"Trainer": {"volumes": [{"claim": "c", "mount_path": "data"}]}}},
            r"mount_path: an absolute path inside the container is needed\. Received: 'data'",
        ),
        ({"every_component": {"secrets": [{"name": "s"}]}}, r"secrets\.0: 's' needs env, mount_path or both"),
        (
            {"every_component": {"tolerations": [{"operator": "Exists", "value": "x"}]}},
            r"tolerations\.0: the operator Exists takes no value",
        ),
        ({"every_component": {"tolerations": [{"value": "x"}]}}, r"tolerations\.0: the operator Equal needs a key"),
        ({"every_component": {"labels": {"team": "birds of prey"}}}, r"labels: for a label, a value .*'birds of prey'"),
        ({"every_component": {"labels": {"my team": "a"}}}, r"labels: the key of a label .* Received: 'my team'"),
        (
            {"every_component": {"node_selector": {"pool": "-"}}},
            r"node_selector: for a label, a value .* Received: '-'",
        ),
        ({"every_component": {"annotations": {"/why": "a"}}}, r"annotations: the key of a label .* Received: '/why'"),
        ({"every_component": {"env": {"1ST": "a"}}}, r"env: the name of an environment variable .* Received: '1ST'"),
        (
            {"every_component": {"secrets": [{"name": "s", "env": {"key": "A B"}}]}},
            r"secrets\.0\.env: the name of an environment variable .* Received: 'A B'",
        ),
        ({"every_component": {"volumes": [{"claim": "Data", "mount_path": "/d"}]}}, r"claim: the name .* 'Data'"),
        ({"image_pull_secrets": ["my_registry"]}, r"image_pull_secrets\.0: the name .* Received: 'my_registry'"),
        ({"service_account": "my account"}, r"service_account: the name .* Received: 'my account'"),
        ({"service_account": "a" * 254}, r"service_account: the name .* at most 253"),
        (
            {"every_component": {"secrets": [{"name": "my.keys", "mount_path": "/k"}]}},
            r"every_component: a mounted resource needs a name .* without dots.* Received: 'my\.keys'",
        ),
        (
            {
                "every_component": {"secrets": [{"name": "bucket", "mount_path": "/k"}]},
                "resources": {"Pusher": {"config_maps": [{"name": "bucket", "mount_path": "/c"}]}},
            },
            r"resources\.Pusher: .* Received: a Secret and ConfigMap 'bucket', both mounted",
        ),
        ({"image_pull_policy": "Sometimes"}, r"image_pull_policy: .*'Sometimes'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_wrong_value_names_its_place_and_what_is_right(load, kubeflow, message):
    with pytest.raises(ConfigError, match=message):
        load(**kubeflow)


def test_own_entry_of_a_component_overrules_and_adds_to_what_holds_for_all():
    config = KubeflowConfig.model_validate(
        {
            "every_component": {
                "cpu": 1,
                "memory": "1Gi",
                "env": {"A": "1", "B": "1"},
                "volumes": [{"claim": "data", "mount_path": "/data"}],
            },
            "resources": {
                "Trainer": {"cpu": 4, "env": {"B": "2"}, "volumes": [{"claim": "fast", "mount_path": "/fast"}]}
            },
        }
    )

    trainer = config.of_component("Trainer")
    assert (trainer.cpu, trainer.memory) == ("4", "1Gi")
    assert trainer.env == {"A": "1", "B": "2"}
    assert [volume.claim for volume in trainer.volumes] == ["data", "fast"]
    assert config.of_component("Pusher") == config.every_component


def test_names_that_kubernetes_takes_are_taken(load):
    load(
        service_account="team.runner",
        every_component={
            "labels": {"example.org/team": "birds", "empty": "", "version": "v1.2_3"},
            "annotations": {"example.org/why": "it is said here, in words"},
            "env": {"_A.b-c": "x"},
            "secrets": [{"name": "my.keys", "env": {"a b": "KEY"}}, {"name": "bucket", "env": {"a": "B"}}],
            "config_maps": [{"name": "bucket", "mount_path": "/c"}],
            "volumes": [{"claim": "d", "mount_path": "/a"}, {"claim": "d", "mount_path": "/b", "sub_path": "b"}],
        },
    )


def test_light_nodes_are_fused_by_a_word(load):
    assert load(fuse="light").kubeflow.fused_groups[1] == ("ServedModelResolver", "Evaluator", "Pusher", "Report")
    assert load().kubeflow.fused_groups == ()
