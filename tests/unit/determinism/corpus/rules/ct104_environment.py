import locale
import os
import sys
from datetime import UTC, datetime
from os import environ, getenv


async def bad_environment():
    return (
        os.environ["REGION"],  # !CT104
        environ.get("REGION"),  # !CT104
        os.getenv("REGION"),  # !CT104
        getenv("REGION"),  # !CT104
        os.getcwd(),  # !CT104
        sys.argv,  # !CT104
        locale.getlocale(),  # !CT104
    )


async def bad_membership():
    return "REGION" in os.environ  # !CT104


async def bad_local_zone(seconds):
    return datetime.fromtimestamp(seconds)  # !CT104


async def good_zone(seconds):
    return datetime.fromtimestamp(seconds, UTC), datetime.fromtimestamp(seconds, tz=UTC)


async def good_input(region: str):
    environ = {"REGION": region}
    return environ["REGION"], environ.get("REGION")
