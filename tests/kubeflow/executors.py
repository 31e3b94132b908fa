"""Executors of tasks that end in different ways. A task's process imports nothing else of the tests."""

import hashlib
from pathlib import Path
from typing import Any


class Quick:
    """An executor that writes one file."""

    Context = dict

    def __init__(self, context: Any) -> None:
        pass

    def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:
        Path(outputs["model"][0].uri, "half").write_text("half")


class Broken(Quick):
    """An executor that fails in the middle."""

    def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:
        super().Do(inputs, outputs, properties)
        raise RuntimeError("broken on purpose")


class Slow(Quick):
    """An executor that is in C code when it is asked to end."""

    def Do(self, inputs: Any, outputs: Any, properties: Any) -> None:
        super().Do(inputs, outputs, properties)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
