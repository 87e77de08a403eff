async def bad_unknown_code():
    return 1  # continuum: allow[CT999] what is this # !CT003


async def good_known_code():
    import time

    return time.time()  # continuum: allow[CT101] shown to people only
