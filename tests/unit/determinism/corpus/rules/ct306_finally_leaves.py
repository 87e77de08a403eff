from ..flows import charge


async def bad_leaves(order):
    try:
        await charge(order)
    finally:
        return order  # !CT306


async def bad_loops(orders):
    for order in orders:
        try:
            await charge(order)
        finally:
            continue  # !CT306


async def good_finally(orders):
    try:
        await charge(orders)
    finally:
        for order in orders:
            if order:
                continue
            break

        def close():
            return orders

        close()
    return orders
