"""What a worker says of itself.

The doctor sends the text of this file to a worker, which may have neither kubetfx nor our Python: so it imports nothing
but the standard library (and kubetfx where a bucket is asked for), and its functions are called with plain values.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import sys
import uuid

MARK = "KUBETFX-PROBE "
"""Before the facts in the text of an error, which is the one way back where no place is shared."""


def report(request: str) -> str:
    """Look around on a worker, and leave what was found.

    Args:
        request: JSON, with `probe`, a file of the workspace; `nonce`, its content; `places` that a run reads; and
            `modules` of the user's.

    Returns:
        The facts, as JSON. They are in the folder of the probe file as well.

    Raises:
        RuntimeError: the probe file is not what it should be; the facts are in the message.
    """
    asked = json.loads(request)
    probe = asked["probe"]
    found = facts(asked["places"], asked["modules"])
    try:
        found["workspace"] = "seen" if read(probe) == asked["nonce"] else "another"
        write(f"{probe}.{uuid.uuid4().hex}", json.dumps(found))
    except Exception as error:  # of the file system, or of the store
        found["workspace"] = f"{type(error).__name__}: {error}"
    text = json.dumps(found)
    if found["workspace"] != "seen":
        raise RuntimeError(MARK + text)
    return text


def read(place: str) -> str:
    """Return the text of the probe file.

    Args:
        place: path, or URL in a bucket, which kubetfx reads: a worker without it says so.
    """
    if "://" in place:
        from kubetfx.storage import locate

        return locate(place).read_text()
    with open(place, encoding="utf-8") as file:
        return file.read()


def write(place: str, text: str) -> None:
    """Leave an answer, whole or not at all.

    Args:
        place: path, or URL in a bucket, without the suffix.
        text: the answer.
    """
    if "://" in place:
        from kubetfx.storage import locate

        locate(f"{place}.json").write_text(text)
        return
    with open(f"{place}.partial", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{place}.partial", f"{place}.json")


def facts(places: list[str], modules: list[str]) -> dict[str, object]:
    """Find out what there is.

    Args:
        places: files and folders that are looked for.
        modules: that are looked for.

    Returns:
        Versions, and what is absent.
    """
    spec = importlib.util.find_spec("kubetfx")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "apache-beam": version_of("apache-beam"),
        "tensorflow": version_of("tensorflow"),
        "kubetfx": version_of("kubetfx"),
        "code": digest(folders[0]) if folders else None,
        "absent_places": [place for place in places if not os.path.exists(place)],
        "absent_modules": [module for module in modules if not _is_there(module)],
    }


def digest(folder: str) -> str:
    """Return a digest of the Python files in a folder and below.

    Args:
        folder: The folder of a package; links in it are followed.
    """
    found = hashlib.sha256()
    for path, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                found.update(os.path.relpath(os.path.join(path, name), folder).encode())
                with open(os.path.join(path, name), "rb") as file:
                    found.update(file.read())
    return found.hexdigest()


def version_of(library: str) -> "str | None":
    """Return the version of a library that is installed, or None.

    TensorFlow is found under the name without GPU kernels too, which is what the images have.

    Args:
        library: its name in the package index.
    """
    for distribution in (library, f"{library}-cpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
