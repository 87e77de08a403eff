import asyncio
import multiprocessing
import os
import signal
import subprocess


async def bad_processes(command):
    subprocess.run(command)  # !CT107
    os.system(command)  # !CT107
    os.fork()  # !CT107
    multiprocessing.Process(target=print).start()  # !CT107 !CT110
    os.kill(1, signal.SIGTERM)  # !CT107
    await asyncio.create_subprocess_exec(command)  # !CT107


async def good_errors(call):
    try:
        return await call
    except subprocess.CalledProcessError as error:
        return error.returncode
