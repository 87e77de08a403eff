import io
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath


async def bad_open(name):
    with open(name) as file:  # !CT105
        return file.read()


async def bad_nine_more(name):
    os.remove(name)  # !CT105
    os.listdir(name)  # !CT105
    os.makedirs(name)  # !CT105
    os.stat(name)  # !CT105
    os.path.exists(name)  # !CT105
    shutil.copy(name, name)  # !CT105
    shutil.rmtree(name)  # !CT105
    tempfile.mkdtemp()  # !CT105
    io.open(name)  # !CT105


async def bad_path(name):
    path = Path(name)
    return path.read_text(), Path(name).exists()  # !CT105 !CT105


async def bad_nested_lambda(names):
    return [(lambda name: lambda: open(name))(name) for name in names]  # !CT105


async def bad_reference(names):
    return list(map(open, names))  # !CT105


async def good_paths(name):
    buffer = io.StringIO()
    buffer.write(name)
    return (
        os.path.join("a", name),
        os.path.basename(name),
        PurePosixPath(name).suffix,
        Path(name).name,
        buffer.getvalue(),
    )


async def good_own_open(door):
    def open(door):
        return not door

    return open(door), door.open()
