"""Everything that knows Kubernetes and Kubeflow Pipelines."""
