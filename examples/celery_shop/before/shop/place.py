"""What the shop's website does: python -m shop.place ORDER ..."""

import sys

from shop.orders import place

for order_id in sys.argv[1:]:
    place(order_id, ["book", "pen", "lamp"])
