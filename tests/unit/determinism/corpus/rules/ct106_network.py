import asyncio
import ipaddress
import socket
import sqlite3
import urllib.parse
import urllib.request

import redis
import sqlalchemy
from psycopg2 import connect


async def bad_sockets(host):
    socket.create_connection((host, 80))  # !CT106
    socket.gethostbyname(host)  # !CT106
    await asyncio.open_connection(host, 80)  # !CT106
    urllib.request.urlopen("http://example.com")  # !CT106


async def bad_databases(url):
    connect(url)  # !CT106
    sqlite3.connect(":memory:")  # !CT106
    sqlalchemy.create_engine(url)  # !CT106
    redis.Redis()  # !CT106


async def good_addresses(text):
    address = ipaddress.ip_address(text)
    return address.is_private, urllib.parse.quote(text), urllib.parse.urlencode({"a": text})


async def good_errors(call):
    try:
        return await call
    except (redis.ConnectionError, sqlalchemy.exc.SQLAlchemyError, socket.timeout):
        return None
