"""A real Kubernetes API server with its etcd, on loopback, which decides as that of a cluster, and runs nothing.

The server is built once from the Go module of Kubernetes, with the version that apiserver/go.mod names, and kept in
~/.cache/kubetfx (XDG_CACHE_HOME). There are no controllers: a Deployment makes no pods, a namespace no account.
"""

import contextlib
import csv
import fcntl
import json
import os
import re
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kubeflow.rendered_manifests import Document
from tests.ports import free_ports

GO_MODULE = Path(__file__).parent / "apiserver"
START_SECONDS = 120
ADMINISTRATOR = "token-of-the-administrator"


class MissingProgramError(Exception):
    """A program that the server needs is not installed here."""


@dataclass(frozen=True)
class Cluster:
    """A server that runs, and who asks it as its administrator."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, documents: Sequence[Document] = ()) -> "subprocess.CompletedProcess[str]":
        """How `kubectl` ended; `documents` are its standard input, for `--filename -`."""
        home = str(self.kubeconfig.parent)
        return subprocess.run(
            ["kubectl", *arguments],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.kubeconfig)},
        )

    def apply(self, *arguments: str, documents: Sequence[Document] = ()) -> "subprocess.CompletedProcess[str]":
        """How a server-side apply ended, to which an unknown field is an error."""
        source = arguments or ("--filename", "-")
        return self.kubectl("apply", "--server-side", "--validate=strict", *source, documents=documents)

    def answers(self, *arguments: str, documents: Sequence[Document]) -> list[Document]:
        """What the server says to documents that are questions, such as a SubjectAccessReview, in their order."""
        asked = self.kubectl("create", "--output", "json", "--filename", "-", *arguments, documents=documents)
        assert asked.returncode == 0, asked.stderr
        found: list[Document] = []
        decoder, rest = json.JSONDecoder(), asked.stdout.strip()
        while rest:  # one document after the other, and no list
            answer, end = decoder.raw_decode(rest)
            found.append(answer)
            rest = rest[end:].lstrip()
        return found

    def token(self, account: str, *, namespace: str, audience: str | None = None) -> str:
        """A token of a service account."""
        options = ("--audience", audience) if audience else ()
        made = self.kubectl("create", "token", account, "--namespace", namespace, *options)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()


@contextlib.contextmanager
def running_cluster(folder: Path, say: Callable[[str], None]) -> Iterator[Cluster]:
    """Start etcd and the API server over a folder, and end them.

    Args:
        folder: for data, keys and logs.
        say: is given what takes long.

    Raises:
        MissingProgramError: etcd, kubectl, or Go and no server of before.
        RuntimeError: one of them does not start; has the end of its log.
    """
    etcd = _program("etcd", "apt-get install etcd-server")
    _program("kubectl", "https://kubernetes.io/docs/tasks/tools")
    server = kube_api_server(say)
    client_port, peer_port, port = free_ports(3)
    with contextlib.ExitStack() as stack:
        etcd_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        store = [etcd, "--data-dir", str(folder / "etcd"), "--initial-cluster", f"default={peer_url}"]
        store += ["--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url]
        store += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        stack.enter_context(_running(store, folder / "etcd.log", ready=f"{etcd_url}/health"))
        command = [str(server), *_flags(folder, port, etcd_url)]
        ready = f"https://127.0.0.1:{port}/readyz"
        stack.enter_context(_running(command, folder / "kube-apiserver.log", ready=ready))
        yield Cluster(_kubeconfig(folder, port))


def kube_api_server(say: Callable[[str], None]) -> Path:
    """The server's program, which is built if it is not there.

    Args:
        say: is given what takes long.

    Raises:
        MissingProgramError: there is neither the program nor Go.
        RuntimeError: the build fails.
    """
    (version,) = re.findall(r"k8s\.io/kubernetes v(\S+)", (GO_MODULE / "go.mod").read_text())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubetfx"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / f"kube-apiserver-{version}"
    with (cache / "kube-apiserver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            go = _program("go", "https://go.dev/doc/install: Go builds the API server")
            say(f"Building kube-apiserver {version} into {cache}, once. It takes minutes ...")
            _build(go, version, program)
    return program


def _build(go: str, version: str, program: Path) -> None:
    unfinished = program.with_suffix(".unfinished")
    built = subprocess.run(
        [
            *(go, "build", "-trimpath", "-o", str(unfinished)),
            f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{version}",
            "k8s.io/kubernetes/cmd/kube-apiserver",
        ],
        cwd=GO_MODULE,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(f"kube-apiserver is not built:\n{built.stderr[-2_000:]}")
    unfinished.rename(program)


def _program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingProgramError(f"{name} is not installed ({remedy})")
    return found


def _flags(folder: Path, port: int, etcd_url: str) -> Iterator[str]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key = folder / "service-accounts.key"
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    tokens = folder / "tokens.csv"
    with tokens.open("w", newline="") as file:
        csv.writer(file).writerow([ADMINISTRATOR, "administrator", "1", "system:masters"])
    yield from (f"--etcd-servers={etcd_url}", "--authorization-mode=RBAC", f"--token-auth-file={tokens}")
    # Its own certificate, signed by itself. Nobody asks it by another address, so it announces none.
    yield from ("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder / 'certificates'}")
    yield from ("--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none")
    yield from ("--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24")
    yield from (f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}")
    yield "--feature-gates=WatchList=false"  # the etcd of Debian 12 has no progress notifications on request


def _kubeconfig(folder: Path, port: int) -> Path:
    server = {"server": f"https://127.0.0.1:{port}"}
    authority = {"certificate-authority": str(folder / "certificates" / "apiserver.crt")}
    path = folder / "kubeconfig.yaml"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": server | authority}],
        "users": [{"name": "administrator", "user": {"token": ADMINISTRATOR}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "administrator"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(document))
    return path


@contextlib.contextmanager
def _running(command: list[str], log: Path, *, ready: str) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{Path(command[0]).name} does not start:\n{log.read_text()[-2_000:]}")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    # The certificate is made while the server starts.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMINISTRATOR}"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
    )
    try:
        with opener.open(request, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
