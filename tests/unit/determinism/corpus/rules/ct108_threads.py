import asyncio
import queue
import threading
from concurrent.futures import ThreadPoolExecutor


async def bad_threads(work):
    threading.Thread(target=work).start()  # !CT108
    with ThreadPoolExecutor() as pool:  # !CT108
        pool.submit(work)  # !CT108
    await asyncio.to_thread(work)  # !CT108
    lock = threading.Lock()  # !CT108
    box = queue.Queue()  # !CT108
    return lock, box


async def bad_future_of_a_thread(future):
    return await asyncio.wrap_future(future)  # !CT108


async def bad_executor(work):
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, work)  # !CT108


async def good_tasks(first, second):
    lock = asyncio.Lock()
    box = asyncio.Queue()
    async with lock:
        await box.put(first)
    task = asyncio.create_task(box.get())
    return await task, second
