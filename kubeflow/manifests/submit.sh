#!/bin/sh
# Copies a folder with a pipeline.yaml and its data to the workbench, and submits the pipeline from there, so that nothing
# but kubectl is needed here: `sh kubeflow/manifests/submit.sh [FOLDER]`. Skaffold runs it after it has deployed.
#
# NAMESPACE   where the workbench is (kubetfx)
# KFP_HOST    Kubeflow Pipelines, as the workbench sees it (http://ml-pipeline.kubeflow:8888)
# STORAGE     claim: data and models on the claims kubetfx-data and kubetfx-models. none: the pipeline.yaml says where.
# SUBMIT      other options of `kubetfx submit`, for example `--no-wait`
set -eu
folder=${1:-examples/penguins}
namespace=${NAMESPACE:-kubetfx}
host=${KFP_HOST:-http://ml-pipeline.kubeflow:8888}
name=$(basename "$(cd "$folder" && pwd)")

cluster() { kubectl ${SKAFFOLD_KUBE_CONTEXT:+--context "$SKAFFOLD_KUBE_CONTEXT"} --namespace "$namespace" "$@"; }

cluster rollout status deployment/kubetfx-workbench --timeout=10m
pod=$(cluster get pod --selector app.kubernetes.io/name=kubetfx-workbench --field-selector status.phase=Running \
  --output 'jsonpath={.items[0].metadata.name}')
image=$(cluster get pod "$pod" --output 'jsonpath={.spec.containers[0].image}')

# Not the workspace of local runs.
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
mkdir "$staged/$name"
(cd "$folder" && tar -cf - --exclude .kubetfx .) | tar -xf - -C "$staged/$name"
cluster cp "$staged/$name" "$pod:/work"

set -- --set "kubeflow.image=$image" --set kubeflow.service_account=kubetfx-pipeline
if [ "${STORAGE:-claim}" = claim ]; then
  cluster exec "$pod" -- sh -c "umask 002 && mkdir -p /data/$name /models/$name && cp -R /work/$name/data/. /data/$name/"
  volumes='[{claim: kubetfx-data, mount_path: /data}, {claim: kubetfx-models, mount_path: /models}]'
  set -- "$@" --set "data.path=/data/$name" --set "serving.push_directory=/models/$name" \
    --set "kubeflow.every_component.volumes=$volumes"
fi
# shellcheck disable=SC2086
cluster exec "$pod" -- kubetfx submit "/work/$name/pipeline.yaml" --host "$host" "$@" ${SUBMIT:-}
