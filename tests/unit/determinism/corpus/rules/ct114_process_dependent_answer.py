import gc
import hashlib
import sys
import weakref


async def bad_answers(order):
    hash(order)  # !CT114
    id(order)  # !CT114
    gc.collect()  # !CT114
    weakref.ref(order)  # !CT114
    sys.getsizeof(order)  # !CT114


async def good_answers(order, id):
    return hashlib.sha256(order.encode()).hexdigest(), id, order.id(), {"id": order}
