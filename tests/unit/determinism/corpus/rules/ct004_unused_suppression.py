import time


async def bad_unused(total):
    return total + 1  # continuum: allow[CT101] nothing here reads a clock # !CT004


async def good_used():  # continuum: allow[CT101] the whole function shows times to people
    before = time.time()
    return time.time() - before
