async def bad_walks(names: list[str]):
    known = set(names)
    for name in known:  # !CT305
        await note(name)
    joined = ",".join({"a", "b"})  # !CT305
    listed = list(frozenset(names))  # !CT305
    parts = [name for name in {name.lower() for name in names}]  # !CT305
    known.pop()  # !CT305
    first = next(iter(known))  # !CT305
    for name in known | {"z"}:  # !CT305
        await note(name)
    return joined, listed, parts, first


async def note(name):
    return name


async def good_walks(names: list[str]):
    known = set(names)
    for name in sorted(known):
        await note(name)
    for name in dict.fromkeys(names):
        await note(name)
    for number in {1, 2, 3}:
        await note(number)
    return len(known), "a" in known, min(known), max(known), any(known), sorted(known | {"b"}), known == {"b"}


async def bad_views(old: dict[str, int], new: dict[str, int]):
    for name in old.keys() & new.keys():  # !CT305
        await note(name)
    gone = old.keys() - new.keys()
    first, *others = gone  # !CT305
    return [pair for pair in old.items() ^ new.items()], first, others  # !CT305


async def bad_annotated(names: list[str]):
    known: set[str] = set(names)
    for name in known:  # !CT305
        await note(name)
    for name in set[str](names):  # !CT305
        await note(name)


async def good_numbers(numbers: list[int], counts: dict[int, str], pairs: list[tuple[int, float]], rows):
    ids: set[int] = set(rows)
    for number in ids:
        await note(number)
    seen: set[int] = set()
    for row in rows:
        seen.add(row)
    for number in seen:
        await note(number)
    for number in set(numbers) | set[int](rows):
        await note(number)
    for number in counts.keys() & ids:
        await note(number)
    for pair in set(pairs):
        await note(pair)
    (only,) = {"a"}
    return only


async def good_views(old: dict[str, int], new: dict[str, int]):
    for name in old.keys():
        await note(name)
    for name, count in new.items():
        await note((name, count))
    return sorted(old.keys() & new.keys()), len(old.items() ^ new.items()), old.keys() == new.keys()
