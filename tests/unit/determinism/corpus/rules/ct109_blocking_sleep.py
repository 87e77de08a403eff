import asyncio
import threading
import time
from time import sleep as nap

import continuum


async def bad_sleeps():
    time.sleep(1)  # !CT109
    nap(1)  # !CT109
    threading.Timer(1, nap).start()  # !CT108 !CT109


async def good_sleeps(hours):
    await continuum.sleep(hours)
    await asyncio.sleep(1)
    asyncio.get_running_loop().call_later(1, hours.clear)


async def good_own_sleep(person):
    await person.sleep(8)
