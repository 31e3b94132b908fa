# The image of every task: `docker build --target pipeline .` (CPU), `--target pipeline-gpu` (with CUDA libraries).
# Workers of a Beam engine: `--target beam-worker`.
# It needs BuildKit. Behind a proxy with a certificate authority of its own:
#     docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt --target pipeline .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG GO_IMAGE=golang:1.26-bookworm

FROM ${PYTHON_IMAGE} AS builder
# `strip` for slim_environment.py.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON=/usr/local/bin/python3.11 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY scripts/install_uv.py scripts/
COPY pyproject.toml uv.lock ./
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    mkdir -p /opt/uv/bin && python scripts/install_uv.py /opt/uv

# Bytecode is unchecked: nothing in an environment changes after this. Some packages ship templates that are no Python,
# hence `|| true`.
FROM builder AS environment
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv sync --frozen --no-dev --group cpu --no-install-package tensorflow --no-install-project --quiet
COPY scripts/slim_environment.py scripts/
RUN python scripts/slim_environment.py /opt/venv
RUN python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/venv/lib/python3.11/site-packages || true

FROM builder AS environment-gpu
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv sync --frozen --no-dev --group gpu --no-install-project --quiet
COPY scripts/slim_environment.py scripts/
RUN python scripts/slim_environment.py /opt/venv
RUN python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/venv/lib/python3.11/site-packages || true

FROM ${PYTHON_IMAGE} AS app
WORKDIR /app
COPY LICENSE README.md pyproject.toml requirements.txt setup.py ./
COPY cli cli
COPY components components
COPY kubeflow kubeflow
COPY kubetfx kubetfx
COPY models models
COPY pipeline pipeline
COPY serving serving
# Checked by time: what `skaffold dev` copies in later counts.
RUN python -m compileall -q /app && chmod -R a+rX /app

FROM ${PYTHON_IMAGE} AS runtime
# LightGBM's only need.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# The standard library of the base image comes without bytecode, and a read-only container could never write any.
RUN python -m compileall -qq -j 0 /usr/local/lib/python3.11 || true
RUN mkdir -p /opt/venv/bin \
    && printf '#!/opt/venv/bin/python\nfrom kubetfx.cli.app import main\n\nmain()\n' > /opt/venv/bin/kubetfx \
    && chmod 0755 /opt/venv/bin/kubetfx
# A user without an entry in /etc/passwd has no name and no home: libraries that ask for either get these. Pydantic would
# look through every installed package for plugins, at each start.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=kubetfx \
    LOGNAME=kubetfx \
    PYDANTIC_DISABLE_PLUGINS=__all__ \
    TF_CPP_MIN_LOG_LEVEL=1
LABEL org.opencontainers.image.title="kubetfx" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
WORKDIR /app
# Any other works as well; group 0 is what OpenShift's arbitrary users have.
USER 10001:0
# For Docker alone: Kubernetes asks with probes. Loads the configuration's types, not TensorFlow.
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s CMD ["kubetfx", "schema"]
ENTRYPOINT ["kubetfx"]
CMD ["--help"]

FROM runtime AS pipeline
COPY --from=environment /opt/venv /opt/venv
COPY --from=app /app /app
ARG VERSION=0.1.0
ARG REVISION=unknown
# Lineage of what these tasks push.
ENV KUBETFX_REVISION=${REVISION}
LABEL org.opencontainers.image.description="Kubernetes-native TFX: the tasks of a pipeline" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM ${GO_IMAGE} AS beam-boot
# That of pyproject.toml.
ARG BEAM_VERSION=2.77.0
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    CGO_ENABLED=0 go install github.com/apache/beam/sdks/v2/python/container@v${BEAM_VERSION}

FROM pipeline AS beam-worker
# A worker of a Beam engine, or with `--worker_pool` a pool of them at port 50000 (docs/scale.md).
LABEL org.opencontainers.image.description="Kubernetes-native TFX: workers of a Beam engine"
USER 0
# Beam's boot program asks for pip, to unpack the code that a job ships.
RUN python -m ensurepip && rm -rf /root/.cache
COPY --from=beam-boot /go/bin/container /opt/apache/beam/container
COPY --chmod=0755 scripts/beam_boot.sh /opt/apache/beam/boot
USER 10001:0
HEALTHCHECK NONE
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []

# Another environment in the same place: `tensorflow` holds GPU kernels, `tensorflow-cpu` does not.
FROM runtime AS pipeline-gpu
COPY --from=environment-gpu /opt/venv /opt/venv
COPY --from=app /app /app
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG REVISION=unknown
# Lineage of what these tasks push.
ENV KUBETFX_REVISION=${REVISION}
LABEL org.opencontainers.image.description="Kubernetes-native TFX: the tasks of a pipeline, with CUDA libraries" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
