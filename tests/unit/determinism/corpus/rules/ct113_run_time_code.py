import functools
import importlib
import operator
from operator import attrgetter, itemgetter, methodcaller


async def bad_made_code(text, module, name):
    eval(text)  # !CT113
    exec(text)  # !CT113
    __import__(text)  # !CT113
    importlib.import_module(text)  # !CT113
    globals()[name]()  # !CT113
    getattr(module, name)()  # !CT113
    methodcaller(name)(module)  # !CT113
    operator.methodcaller(name)(module)  # !CT113
    functools.partial(getattr(module, name), 1)()  # !CT113


async def good_choices(order, orders, field):
    handlers = {"a": len, "b": sum}
    by_name = sorted(orders, key=attrgetter("name"))
    value = getattr(order, field)
    method = getattr(order, "total", None)
    return (
        handlers["a"](orders),
        by_name,
        value,
        method,
        list(map(methodcaller("strip"), orders)),
        itemgetter(1)(orders),
    )
