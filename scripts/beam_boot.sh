#!/bin/sh
# Starts one worker of Beam, in a pool or a container: what Beam calls `boot`. Arguments are passed on.
#
# Beam's own boot program unpacks the code that a job ships, and starts Python. Here each worker has that code in a folder
# of its own, before everything that is installed: jobs do not share it, and nothing that is installed changes.
set -eu
folder=$(mktemp -d "${TMPDIR:-/tmp}/beam-worker-XXXXXX")
mkdir "$folder/bin" "$folder/code"
# The boot program lists all packages for its log, three times, and installs each wheel twice, the second time for its
# requirements, which ours has none of. With hundreds of packages that is most of the time that a worker takes to start.
cat > "$folder/bin/python" <<END
#!/bin/sh
case "\$*" in
    "-m pip freeze --all") ;;
    "-m pip show apache-beam") exec "$(command -v python)" -c "import importlib.metadata as found; found.version('apache-beam')" ;;
    *" --no-deps "*) exec "$(command -v python)" "\$@" ;;
    "-m pip install "*/kubetfx-*.whl*) ;;
    *) exec "$(command -v python)" "\$@" ;;
esac
END
chmod 0755 "$folder/bin/python"
export PATH="$folder/bin:$PATH"
export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
export PIP_TARGET="$folder/code"
export PYTHONPATH="$folder/code${PYTHONPATH:+:$PYTHONPATH}"
"${BEAM_BOOT:-/opt/apache/beam/container}" --semi_persist_dir="$folder" "$@" >&2 & # a pool does not read stdout
worker=$!
trap 'kill -TERM "$worker"' TERM INT
status=0
wait "$worker" || status=$?
wait "$worker" 2>/dev/null || true # a signal ends the first one early
rm -rf "$folder"
exit "$status"
