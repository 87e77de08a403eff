import uuid
from uuid import UUID, uuid4
from uuid import uuid1 as make

import continuum


async def bad_ids():
    return uuid.uuid4(), uuid4(), make(), str(uuid4())  # !CT103 !CT103 !CT103 !CT103


async def good_ids(order):
    return continuum.uuid4(), uuid.uuid5(uuid.NAMESPACE_URL, order), UUID(order)
