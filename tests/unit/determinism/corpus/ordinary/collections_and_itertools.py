import bisect
import collections
import heapq
import itertools
import operator
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from itertools import chain, groupby, islice

from continuum import workflow

from .support import fetch

Pair = namedtuple("Pair", "left right")


@workflow(name="ordinary.collections")
async def collections_flow(words: list[str]) -> dict:
    counts = Counter(words)
    groups = defaultdict(list)
    for key, members in groupby(sorted(words, key=len), key=len):
        groups[key].extend(members)
    queue = deque(words, maxlen=3)
    queue.append("x")
    queue.rotate(1)
    heap = []
    for word in words:
        heapq.heappush(heap, (len(word), word))
    order = OrderedDict.fromkeys(words)
    order.move_to_end(words[0])
    maps = collections.ChainMap({"a": 1}, {"b": 2})
    pages = [await fetch(page) for page in islice(itertools.count(1), 3)]
    sums = list(itertools.accumulate([1, 2, 3], operator.add))
    bisect.insort(sums, 2)
    pair = Pair(*sums[:2])._replace(left=0)
    flat = list(chain.from_iterable(groups.values()))
    return {"counts": counts.most_common(2), "pages": len(pages), "flat": flat, "pair": pair, "maps": dict(maps)}
