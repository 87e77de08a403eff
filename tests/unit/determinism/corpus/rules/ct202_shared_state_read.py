RATES = {}
LIMITS = {"eu": 10}
NAMES = ["a"]


def set_rate(region, rate):
    RATES[region] = rate


async def bad_read(region):
    return RATES[region], RATES.get(region)  # !CT202


async def good_constants(region):
    return LIMITS[region], NAMES[0], len(NAMES)
