#!/bin/sh
# Starts one worker of Beam, in a pool or a container: what Beam calls `boot`. Arguments are passed on.
#
# Beam's own boot program unpacks the code that a job ships, and starts Python. Here each worker has that code in a folder
# of its own, before everything that is installed: jobs do not share it, and nothing that is installed changes.
set -eu
folder=$(mktemp -d "${TMPDIR:-/tmp}/beam-worker-XXXXXX")
mkdir "$folder/bin" "$folder/code"
# Engines wait for a worker for a time of their own, Prism one minute, in which it has to unpack the code and to import
# Beam. So what costs processor time there and does nothing is left out:
# - The boot program lists all packages for its log, three times, and installs each wheel twice with pip, the second time
#   for its requirements. Our wheel has none, and is unpacked.
# - Beam imports IPython where it is installed, and Python looks for garbage among what is imported.
python=$(command -v python)
cat > "$folder/bin/unpack.py" <<END
import sys, zipfile
for argument in sys.argv:
    if argument.endswith(".whl"):
        zipfile.ZipFile(argument).extractall("$folder/code")
END
cat > "$folder/bin/worker.py" <<END
import gc, sys
gc.disable()
sys.path[0] = ""
sys.modules["IPython"] = None
from apache_beam.runners.worker.sdk_worker_main import main
del sys.modules["IPython"]
gc.freeze()
gc.enable()
main(sys.argv)
END
cat > "$folder/bin/python" <<END
#!/bin/sh
case "\$*" in
    "-m pip freeze --all") ;;
    "-m pip show apache-beam") exec "$python" -c "import importlib.metadata as found; found.version('apache-beam')" ;;
    "-m pip install "*" --no-deps "*/kubetfx-*.whl*) exec "$python" "$folder/bin/unpack.py" "\$@" ;;
    "-m pip install "*/kubetfx-*.whl*) ;;
    "-m apache_beam.runners.worker.sdk_worker_main") exec "$python" "$folder/bin/worker.py" ;;
    *) exec "$python" "\$@" ;;
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
