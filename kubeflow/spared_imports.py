"""What a container spares itself to import: see pipeline/spared_imports.py."""

from pipeline.spared_imports import spared_imports

__all__ = ["spared_imports"]
