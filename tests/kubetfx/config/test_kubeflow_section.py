"""The `kubeflow` section: what a task's pod is like."""

import re
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
        ({"fuse": [[]]}, r"fuse: a group needs the names of components\. Received: an empty one"),
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
        (
            {
                "every_component": {"volumes": [{"claim": "a", "mount_path": "/data"}]},
                "resources": {"Pusher": {"volumes": [{"claim": "b", "mount_path": "/data/"}]}},
            },
            r"resources\.Pusher: one thing .* Received: the claim 'a' and the claim 'b', both at /data/",
        ),
        (
            {
                "every_component": {
                    "secrets": [{"name": "s", "mount_path": "/k"}],
                    "config_maps": [{"name": "c", "mount_path": "/k"}],
                }
            },
            r"every_component: one thing .* Received: the Secret 's' and the ConfigMap 'c', both at /k",
        ),
        (
            {"every_component": {"shared_memory": "1Gi", "volumes": [{"claim": "a", "mount_path": "/dev/shm"}]}},
            r"Received: shared_memory and the claim 'a', both at /dev/shm",
        ),
        (
            {"every_component": {"env": {"A": "x"}, "secrets": [{"name": "s", "env": {"k": "A"}}]}},
            r"every_component: an environment variable has one value\. Received: A twice, from env and 's'",
        ),
        (
            {"every_component": {"secrets": [{"name": "s", "env": {"k": "A", "l": "A"}}]}},
            r"Received: A twice, from 's' and 's'",
        ),
        *(
            (
                {"every_component": {"volumes": [{"claim": "a", "mount_path": "/a", "sub_path": path}]}},
                rf"sub_path: a folder inside of the volume is needed.* Received: {path!r}",
            )
            for path in ("../x", "x/../../y", "/x")
        ),
        (
            {"every_component": {"volumes": [{"claim": "a", "mount_path": "/a:b"}]}},
            r"mount_path: a path at which something is mounted has no ':'.* Received: '/a:b'",
        ),
        *(
            (
                {"every_component": {"tolerations": [{"key": "a", "toleration_seconds": 5, **effect}]}},
                rf"tolerations\.0: toleration_seconds needs the effect NoExecute.* Received: {received}",
            )
            for effect, received in (({"effect": "NoSchedule"}, "NoSchedule"), ({}, "no effect"))
        ),
        *(
            ({"image": image}, rf"image: a container image, .* is needed, .* Received: {re.escape(repr(image))}")
            for image in ("a b", "", "team/Image", "image:", "image:a b", "https://example.org/image")
        ),
        ({"every_component": {"env": {"A": "a\0b"}}}, r"env: an environment variable holds no NUL.* Received: A with"),
        *(
            ({"resources": {"Trainer": task}}, rf"{key}: .*2147483647.*Received: {number}")
            for key, number, task in (
                ("count", 10**12, {"retries": {"count": 10**12}}),
                ("backoff_seconds", 10**20, {"retries": {"backoff_seconds": 10**20}}),
                ("backoff_factor", 10**10, {"retries": {"backoff_factor": 10**10}}),
                ("deadline_seconds", 2**31, {"retries": {"deadline_seconds": 2**31}}),
                ("timeout_seconds", 10**30, {"timeout_seconds": 10**30}),
                ("count", 10**30, {"gpu": {"count": 10**30}}),
            )
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


@pytest.mark.parametrize(
    "image",
    [
        "kubetfx/pipeline:latest",
        "localhost:5000/kubetfx",
        "europe-docker.pkg.dev/team-1/repo_x/kubetfx:v1.0_2-rc.1",
        f"ghcr.io/team/kubetfx:1@sha256:{'0a' * 32}",
        "[2001:db8::1]:5000/kubetfx",
    ],
)
def test_images_that_a_container_runtime_takes_are_taken(load, image):
    assert load(image=image).kubeflow.image == image


def test_pod_may_mount_one_claim_at_two_paths_and_be_moved_late(load):
    load(
        every_component={
            "volumes": [
                {"claim": "a", "mount_path": "/a", "sub_path": "x/y"},
                {"claim": "a", "mount_path": "/a/b", "sub_path": "x..y"},
            ],
            "tolerations": [{"operator": "Exists", "effect": "NoExecute", "toleration_seconds": 60}],
            "retries": {"count": 2**31 - 1},
        }
    )


def test_light_nodes_are_fused_by_a_word(load):
    assert load(fuse="light").kubeflow.fused_groups[1] == ("ServedModelResolver", "Evaluator", "Pusher", "Report")
    assert load().kubeflow.fused_groups == ()
