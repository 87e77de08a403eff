import time


async def bad_without_reason():
    return time.time()  # continuum: allow[CT101]
    # !CT002 ^


async def good_with_reason():
    return time.time()  # continuum: allow[CT101] shown to people only
