"""Put the uv that uv.lock pins into a virtual environment, with the standard library alone.

A Python without ensurepip (Debian's, for one) makes environments without pip. The lock already names uv's wheel and its
hash, so no installer is needed to get it: `install_uv.py .venv`.
"""

import hashlib
import io
import os
import platform
import stat
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "uv.lock"


def locked_wheel(machine: str) -> dict[str, str]:
    """Return the lock's entry (url, hash) of uv's wheel for a glibc Linux on this processor."""
    packages = tomllib.loads(LOCK.read_text())["package"]
    wheels = next(package for package in packages if package["name"] == "uv")["wheels"]
    for wheel in wheels:
        if "manylinux" in wheel["url"] and wheel["url"].endswith(f"{machine}.whl"):
            return dict(wheel)
    sys.exit(f"No uv for this machine in uv.lock. Received: {machine}. kubetfx's wheels are for Linux on x86_64.")


def main(environment: Path) -> None:
    """Download the wheel, check its hash, and put its `uv` into the environment's bin/."""
    wheel = locked_wheel(platform.machine())
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    context = None
    if certificates:
        import ssl

        context = ssl.create_default_context(cafile=certificates)
    with urllib.request.urlopen(wheel["url"], timeout=120, context=context) as response:
        content = response.read()
    algorithm, expected = wheel["hash"].split(":")
    received = hashlib.new(algorithm, content).hexdigest()
    if received != expected:
        sys.exit(f"uv's wheel is not the one that uv.lock names. Expected {expected}. Received: {received}.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        binary = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        target = environment / "bin" / "uv"
        target.write_bytes(archive.read(binary))
    target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
