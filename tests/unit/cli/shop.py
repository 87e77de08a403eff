"""Here lives the app that tests of the commands name with ``-A``."""

from continuum import Continuum
from tests.integration.client import flows

__all__ = ["URL", "continuum", "flows"]

URL = "memory://tests.unit.cli.shop"
continuum = Continuum(URL, concurrency=2)
