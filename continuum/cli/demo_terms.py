"""Here live the words that ``continuum demo`` and its application share.

The command names the application and does not import it: that would declare the demo's workflows in every process of
the command line, dispatchers included.
"""

from datetime import timedelta
from typing import Final

__all__ = ["AMOUNT", "APP", "EFFECTS", "LEASE_TTL", "SCHEMA", "SCHEMA_VARIABLE"]

APP: Final = "continuum.cli.demo_app"
SCHEMA: Final = "continuum_demo"
SCHEMA_VARIABLE: Final = "CONTINUUM_DEMO_SCHEMA"
LEASE_TTL: Final = timedelta(seconds=3)
AMOUNT: Final = 42
EFFECTS: Final = ("charge", "ship", "notify")
