"""Uploads a package to Kubeflow Pipelines, unless it is there already."""

from dataclasses import dataclass
from typing import Any

import kfp_server_api
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_exponential

from kubetfx.errors import KubeflowError
from kubetfx.kubeflow.kfp_connection import PAGE_SIZE, OpenConnection, all_pages, named, quiet
from kubetfx.kubeflow.package_document import Package, digest

_REFUSED = 400
_ALREADY_EXISTS = 409
_LOOKS = 5
_FIRST_WAIT_SECONDS = 0.5
"""Each further wait for the version of a new pipeline is twice as long."""
_PIPELINE_LABEL = "pipelines.kubeflow.org/pipeline-id"


@dataclass(frozen=True)
class PipelineVersion:
    """A package that was uploaded to KFP."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool
    """Whether it was uploaded now."""
    caution: str = ""
    """What may be wrong with that, and cannot be seen from here."""


def upload(kfp: OpenConnection, package: Package) -> PipelineVersion:
    """Upload a package, as a new pipeline or as a version of the pipeline of its name, unless KFP has it.

    The name of a version ends in the package's digest, also if GitOps applied it as a PipelineVersion. KFP names the
    first version after the pipeline, so the digest of that one is in its description. A version that KFP does not list
    cannot be found: the API has no other way to ask for one by its name.

    Args:
        kfp: an open connection.
        package: to upload.

    Returns:
        The version that holds the package.

    Raises:
        KubeflowError: Kubeflow Pipelines refuses, cannot be reached, or has the version and does not list it.
    """
    package_digest = digest(package.path)
    name, description = f"{package.name}-{package_digest}", f"sha256:{package_digest}"
    with kfp.explained("upload the pipeline"), quiet():
        pipeline_id = _pipeline_id(kfp, package.name)
        if pipeline_id is None:
            return _upload_first(kfp, package, description=description)
        for version in _versions(kfp, pipeline_id):
            if name in (version.name, version.display_name) or version.description == description:
                return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=False)
        try:
            version = kfp.api.upload_pipeline_version(
                str(package.path), name, pipeline_id=pipeline_id, description=description
            )
        except kfp_server_api.ApiException as error:
            if error.status != _ALREADY_EXISTS:
                raise
            raise KubeflowError(_unlisted(kfp, name, pipeline_id)) from error
    caution = _caution(kfp, name, pipeline_id) if kfp.pipelines_are_in_kubernetes else ""
    return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=True, caution=caution)


def _unlisted(kfp: OpenConnection, name: str, pipeline_id: str) -> str:
    """Return why a version is not listed, with the remedy.

    KFP lists the versions that have the label of a pipeline (`getK8sPipelineVersions` in its API server's
    pipeline_store_kubernetes.go). Its webhook sets it, on the PipelineVersions that are applied while it is there.
    """
    return (
        "Kubeflow Pipelines has this version, and does not list it with its pipeline. Received: 409 for the version "
        f"{name}. If it was applied as a PipelineVersion, it lacks the label that KFP's webhook sets. Set it: "
        f"{_labelling(kfp, name, pipeline_id)}"
    )


def _caution(kfp: OpenConnection, name: str, pipeline_id: str) -> str:
    """Return what an upload may have doubled.

    KFP 2.17 puts the pipeline's name in front of the resource's (`FromPipelineVersionModel` in its
    pipelineversion_types.go), and so takes an upload beside a PipelineVersion of the same name that it does not list.
    """
    return (
        "Kubeflow Pipelines keeps its pipelines in Kubernetes here, and does not list a PipelineVersion without the "
        f"label that its webhook sets. If {name} was applied without it, it cannot be seen from here, and this upload "
        f"is a second version of the same package. To have it found: {_labelling(kfp, name, pipeline_id)}"
    )


def _labelling(kfp: OpenConnection, name: str, pipeline_id: str) -> str:
    return f"kubectl label pipelineversion {name} -n {kfp.namespace or 'kubeflow'} {_PIPELINE_LABEL}={pipeline_id}"


def _pipeline_id(kfp: OpenConnection, name: str) -> str | None:
    try:
        found = kfp.api.list_pipelines(page_size=PAGE_SIZE, filter=named(name), namespace=kfp.api_namespace).pipelines
    except kfp_server_api.ApiException as error:
        if error.status != _REFUSED or not kfp.pipelines_are_in_kubernetes:
            raise
        found = [one for one in _pipelines(kfp) if name in (one.name, one.display_name)]
    return str(found[0].pipeline_id) if found else None


def _pipelines(kfp: OpenConnection) -> list[Any]:
    """Return all pipelines: KFP 2.14.0 knows no filter that asks for equality where it keeps them in Kubernetes."""
    return all_pages(
        lambda token: kfp.api.list_pipelines(page_token=token, page_size=PAGE_SIZE, namespace=kfp.api_namespace),
        "pipelines",
    )


def _upload_first(kfp: OpenConnection, package: Package, *, description: str) -> PipelineVersion:
    pipeline = kfp.api.upload_pipeline(
        str(package.path), package.name, description=description, namespace=kfp.api_namespace
    )
    retrying = Retrying(
        retry=retry_if_result(lambda found: not found),
        stop=stop_after_attempt(_LOOKS),
        wait=wait_exponential(multiplier=_FIRST_WAIT_SECONDS),
        retry_error_callback=lambda _: [],
    )
    versions = retrying(_versions, kfp, pipeline.pipeline_id)
    if not versions:
        raise KubeflowError(
            f"Kubeflow Pipelines took the pipeline, and lists no version of it. Received: {pipeline.pipeline_id}, "
            f"{package.name}, without a version, {_LOOKS} times. Submit it again in a minute; if it still has none, "
            "delete the pipeline in the UI first."
        )
    return PipelineVersion(pipeline.pipeline_id, versions[0].pipeline_version_id, versions[0].display_name, is_new=True)


def _versions(kfp: OpenConnection, pipeline_id: str) -> list[Any]:
    return all_pages(
        lambda token: kfp.api.list_pipeline_versions(pipeline_id, page_token=token, page_size=PAGE_SIZE),
        "pipeline_versions",
    )
