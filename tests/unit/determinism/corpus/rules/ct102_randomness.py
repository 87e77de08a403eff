import random
import random as r
import secrets
from os import urandom
from random import choice, shuffle

import continuum

from .helpers import shuffle_all


async def bad_number():
    return random.random(), random.randint(1, 6)  # !CT102 !CT102


async def bad_choice_in_six_spellings(cards):
    first = random.choice(cards)  # !CT102
    second = r.choice(cards)  # !CT102
    third = choice(cards)  # !CT102
    shuffle(cards)  # !CT102
    fourth = random.sample(cards, 2)  # !CT102
    picked = list(map(random.choice, [cards]))  # !CT102
    return first, second, third, fourth, picked


async def bad_secrets():
    return secrets.token_hex(), urandom(8), secrets.choice([1, 2])  # !CT102 !CT102 !CT102


async def bad_unseeded():
    return random.Random().random()  # !CT102


async def bad_through_helper(cards):
    return shuffle_all(cards)


async def good_recorded(cards):
    generator = random.Random(continuum.uuid4().int)
    generator.shuffle(cards)
    return continuum.random(), cards, generator.choice(cards)


async def good_own_random(random):
    return random.random()


async def good_comparison(token, expected):
    return secrets.compare_digest(token, expected)
