// The operators whose resource definitions a training's documents are tested with: they are files of their modules.
module kubetfx/tests/cluster/operators

go 1.22

require (
	github.com/kubeflow/training-operator v1.9.3
	github.com/ray-project/kuberay/ray-operator v1.4.2
	sigs.k8s.io/jobset v0.11.0
)
