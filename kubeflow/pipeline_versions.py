"""Uploading a package to Kubeflow Pipelines, once."""

from dataclasses import dataclass
from typing import Any

from kubetfx.kubeflow.kfp_connection import PAGE_SIZE, OpenConnection, all_pages, named, quiet
from kubetfx.kubeflow.package_document import Package, digest


@dataclass(frozen=True)
class PipelineVersion:
    """A version that KFP has of a package."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool
    """Whether it was uploaded now."""


def upload(kfp: OpenConnection, package: Package) -> PipelineVersion:
    """Let KFP have a package: as a new pipeline, or as a version of the one of its name.

    The same package is uploaded once.

    Raises:
        KubeflowError: refused, or not reached.
    """
    package_digest = digest(package.path)
    version_name, description = f"{package.name}-{package_digest}", f"sha256:{package_digest}"
    with kfp.explained("upload the pipeline"), quiet():
        pipeline_id = _pipeline_id(kfp, package.name)
        if pipeline_id is None:
            return _upload_first(kfp, package, description=description)
        for version in _versions(kfp, pipeline_id):
            if version.display_name == version_name or version.description == description:
                return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=False)
        version = kfp.api.upload_pipeline_version(
            str(package.path), version_name, pipeline_id=pipeline_id, description=description
        )
    return PipelineVersion(pipeline_id, version.pipeline_version_id, version.display_name, is_new=True)


def _pipeline_id(kfp: OpenConnection, name: str) -> str | None:
    found = kfp.api.list_pipelines(page_size=PAGE_SIZE, filter=named(name), namespace=kfp.api_namespace).pipelines
    return str(found[0].pipeline_id) if found else None


def _upload_first(kfp: OpenConnection, package: Package, *, description: str) -> PipelineVersion:
    pipeline = kfp.api.upload_pipeline(
        str(package.path), package.name, description=description, namespace=kfp.api_namespace
    )
    (version, *_) = _versions(kfp, pipeline.pipeline_id)
    return PipelineVersion(pipeline.pipeline_id, version.pipeline_version_id, version.display_name, is_new=True)


def _versions(kfp: OpenConnection, pipeline_id: str) -> list[Any]:
    return all_pages(
        lambda token: kfp.api.list_pipeline_versions(pipeline_id, page_token=token, page_size=PAGE_SIZE),
        "pipeline_versions",
    )
