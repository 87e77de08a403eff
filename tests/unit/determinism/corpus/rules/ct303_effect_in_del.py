from ..flows import charge


class Bad:
    def __init__(self, order):
        self.order = order

    def __del__(self):
        charge(self.order)


class Good:
    def __init__(self, order):
        self.order = order

    def __del__(self):
        self.order = None

    def close(self):
        return charge(self.order)


async def bad_del(order):
    Bad(order)  # !CT303


async def good_close(order):
    good = Good(order)
    await good.close()
