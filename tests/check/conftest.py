"""The full captures, for these tests, too."""

from tests.gold.conftest import expander

__all__ = ["expander"]
