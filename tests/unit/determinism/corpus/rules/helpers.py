"""What the corpus calls in another module."""

import random
import time as clockwork
from datetime import datetime as d


def stamp():
    return d.now()  # !CT101


def price(items):
    return sum(items)


def deep(value):
    return deeper(value)


def deeper(value):
    return value + clockwork.time()  # !CT101


def shuffle_all(cards):
    random.shuffle(cards)  # !CT102
    return cards
