"""A version of a model: the loaded model while requests use it.

When a version is loaded and unloaded, versions.py decides.
"""

import gc
import threading

from kubetfx.serving.saved_model import SavedModel


class ServedVersion:
    """A loaded version and the requests that use it.

    Args:
        model_name: as requests have it.
        version: its number.
        model: the loaded model; this object closes it.
    """

    def __init__(self, model_name: str, version: int, model: SavedModel) -> None:
        self.model_name = model_name
        self.version = version
        self.model = model
        self._condition = threading.Condition()
        self._users = 0
        self._retired = False

    def acquire(self) -> bool:
        """Hold the version until `release`; return False if it is being unloaded."""
        with self._condition:
            if self._retired:
                return False
            self._users += 1
            return True

    def retain(self) -> None:
        """Hold the version once more; who holds it already may do so even while it is being unloaded."""
        with self._condition:
            self._users += 1

    def release(self) -> None:
        """Stop holding the version."""
        with self._condition:
            self._users -= 1
            if self._retired and self._users == 0:
                self._condition.notify_all()

    def retire(self) -> None:
        """Take no more requests, wait for those that are under way, and free the model."""
        with self._condition:
            self._retired = True
            self._condition.wait_for(lambda: self._users == 0)
        self.model.close()
        gc.collect()
