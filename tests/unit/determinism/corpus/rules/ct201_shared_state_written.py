import collections

CACHE = {}
ORDERS = []
COUNTS = collections.Counter()
total = 0


class Shop:
    sales = 0
    names = []


async def bad_writes(key, value):
    global total
    total += value  # !CT201
    CACHE[key] = value  # !CT201
    ORDERS.append(value)  # !CT201
    COUNTS[key] += 1  # !CT201
    CACHE.update({key: value})  # !CT201
    del CACHE[key]  # !CT201
    Shop.sales = value  # !CT201
    Shop.names.append(key)  # !CT201


async def bad_through_helper(key):
    remember(key)


def remember(key):
    CACHE.setdefault(key, 1)  # !CT201


async def good_locals(key, value):
    cache = {}
    cache[key] = value
    orders = list(COPY)
    orders.append(value)
    count = 0

    def add():
        nonlocal count
        count += 1

    add()
    CACHE_LOCAL = cache
    CACHE_LOCAL[key] = 2
    return cache, orders, count


COPY = (1, 2)


class Basket:
    def __init__(self):
        self.items = []

    def add(self, item):
        self.items.append(item)
        self.last = item


async def good_own_objects(item):
    basket = Basket()
    basket.add(item)
    basket.items.append(item)
    basket.owner = "me"
    return basket.items
