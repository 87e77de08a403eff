import ipaddress
import os
import platform
import socket
import sys
import threading

import continuum


async def bad_identity():
    return (
        os.getpid(),  # !CT112
        socket.gethostname(),  # !CT112
        platform.node(),  # !CT112
        os.cpu_count(),  # !CT112
        threading.get_ident(),  # !CT112
        sys.platform,  # !CT112
    )


async def bad_default():
    def on(host=platform.node()):  # !CT112
        return host

    return on()


async def bad_guard(value):
    match value:
        case str() if socket.gethostname() == value:  # !CT112
            return True
    return False


async def good_identity(text):
    return continuum.run_info(), ipaddress.ip_address(text), sys.maxsize
