import copy
import csv
import io
import json
from urllib.parse import parse_qs, urlencode, urlsplit

from continuum import workflow

from .support import fetch


@workflow(name="ordinary.json_documents")
async def json_documents(url: str) -> str:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    document = await fetch(int(query.get("page", ["1"])[0]))
    changed = copy.deepcopy(document)
    changed.setdefault("seen", []).append(parts.netloc)
    changed |= {"query": urlencode({"a": 1})}
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(changed)
    rows = list(csv.DictReader(buffer.getvalue().splitlines()))
    return json.dumps({"rows": rows, **changed}, sort_keys=True, default=str)
