"""Decompressors that Python does not bring along: each is an extra of vmcorefs, imported when a dump needs it."""

from __future__ import annotations

import importlib
from typing import Any

from vmcorefs.errors import ImageError

# compression -> (module, extra)
_LIBRARIES = {"zstd": ("zstandard", "zstd"), "snappy": ("cramjam", "snappy"), "lzo": ("lzallright", "lzo")}


def _command(name: str, extra: str) -> str:
    """Packages of a distribution, and a pyz, know of no extras; pip installs the module beside them."""
    return f"pip install 'vmcorefs[{extra}]', or, where vmcorefs was not installed by pip: pip install {name}"


def library(compression: str, file: str) -> Any:
    """The module that decompresses *compression*. Raises ImageError for *file* with the command that installs it."""
    name, extra = _LIBRARIES[compression]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImageError(f"{file}: it is compressed with {compression}, for which the Python module {name} is needed ({error}); "
                         f"install it for the Python that runs vmcorefs: {_command(name, extra)}") from error
