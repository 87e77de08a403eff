"""Here lives which widespread packages, and which parts of Continuum, workflow code must not call.

Those that are nothing but a way to the outside are forbidden as a whole.
"""

from typing import Final

from continuum.determinism.calls_stdlib import allow, forbid

__all__ = ["PACKAGES"]

PACKAGES: Final = (
    # ------------------------------------------------------------------ clocks, chance, ids
    forbid("CT101", "now utcnow", under="arrow"),
    forbid("CT101", "now today tomorrow yesterday", under="pendulum"),
    forbid("CT101", "arrow.arrow.Arrow.now arrow.arrow.Arrow.utcnow arrow.Arrow.now arrow.Arrow.utcnow"),
    forbid("CT101", "django.utils.timezone.now django.utils.timezone.localdate"),
    forbid("CT101", "django.utils.timezone.localtime", fewer_than=1),
    forbid("CT102", "numpy.random"),
    forbid("CT102", "default_rng RandomState", under="numpy.random", fewer_than=1, hint="give it a seed"),
    allow("numpy.random.Generator numpy.random.RandomState.* numpy.random._generator.Generator"),
    forbid("CT102", "django.utils.crypto.get_random_string faker.Faker faker.proxy.Faker nanoid"),
    forbid("CT103", "ulid ksuid shortuuid.uuid uuid_utils cuid uuid6", hint="build it from continuum.uuid4()"),
    # ------------------------------------------------------------------ configuration
    forbid(
        "CT104",
        "django.conf.settings django.conf.LazySettings dotenv decouple environ environs dynaconf pydantic_settings"
        " tzlocal dateutil.tz.tzlocal dateutil.tz.tz.tzlocal flask.current_app",
    ),
    # ------------------------------------------------------------------ network, databases, brokers
    forbid(
        "CT106",
        "requests httpx aiohttp urllib3 websockets websocket grpc paramiko asyncssh fabric zmq nats"
        " psycopg psycopg2 psycopg_pool asyncpg sqlalchemy sqlmodel.Session peewee pymysql MySQLdb mysql aiosqlite"
        " aiomysql oracledb cx_Oracle pyodbc pymssql pymongo motor beanie mongoengine cassandra neo4j duckdb"
        " clickhouse_driver clickhouse_connect snowflake tortoise"
        " redis aioredis valkey coredis memcache pymemcache pylibmc aiomcache elasticsearch opensearchpy"
        " kafka aiokafka confluent_kafka pika aio_pika kombu amqp"
        " boto3 botocore aioboto3 aiobotocore s3fs fsspec google.cloud googleapiclient azure minio"
        " stripe twilio sendgrid slack_sdk openai anthropic mailgun sentry_sdk"
        " django.db django.core.mail django.core.cache django.core.files django.http django.test"
        " flask.g starlette.testclient",
    ),
    # Building a statement or a condition touches nothing.
    allow("sqlalchemy.sql sqlalchemy.types sqlalchemy.exc sqlalchemy.schema sqlalchemy.dialects"),
    allow("django.db.models.query_utils django.db.models.expressions django.db.models.Q django.db.models.F"),
    allow("django.db.models.enums django.db.models.TextChoices django.db.models.IntegerChoices django.db.utils"),
    allow("httpx.URL httpx.QueryParams httpx.codes requests.codes requests.utils.quote aiohttp.hdrs"),
    # ------------------------------------------------------------------ files
    forbid("CT105", "aiofiles anyio.open_file anyio.Path.* anyio._core._fileio watchdog"),
    # ------------------------------------------------------------------ processes and threads
    forbid("CT107", "billiard sh pexpect plumbum anyio.run_process anyio.open_process anyio._core._subprocesses"),
    forbid(
        "CT108",
        "gevent eventlet asgiref.sync starlette.concurrency janus joblib anyio.to_thread anyio.from_thread"
        " anyio.to_process anyio.to_interpreter",
    ),
    forbid("CT109", "gevent.sleep eventlet.sleep gevent.hub.sleep"),
    # ------------------------------------------------------------------ console, logging
    forbid("CT110", "click.echo click.secho click.prompt click.confirm click.utils.echo typer.echo rich.print tqdm"),
    forbid("CT111", "structlog loguru logbook celery.utils.log"),
    forbid("CT112", "psutil netifaces distro"),
    # ------------------------------------------------------------------ the client, Celery and its kin
    forbid("CT115", "celery dramatiq rq huey taskiq arq procrastinate apscheduler dask ray temporalio dbos"),
    forbid(
        "CT115",
        "celery.app.task.Task celery.Task celery.local.Proxy",
        hint="declare it with activity.from_celery(task) and await that",
    ),
    forbid(
        "CT115",
        "celery.canvas celery.chain celery.group celery.chord celery.signature",
        hint="write it as code: await activities one after the other, or with asyncio.gather",
    ),
    allow("celery.exceptions celery.states celery.schedules"),
    forbid("CT115", "continuum.client continuum.Continuum continuum.RunHandle continuum.AsyncRunHandle"),
    forbid(
        "CT115",
        "start start_unique",
        under="continuum.client.instance.Continuum",
        hint="start it as a child: await the workflow, or continuum.start_child(...)",
    ),
    forbid(
        "CT115",
        "continuum.client.instance.Continuum.signal continuum.client.handles.RunHandle.signal"
        " continuum.client.handles.AsyncRunHandle.signal",
        hint="signal a child by its handle (continuum.start_child(...).signal), other runs from an activity",
    ),
    forbid(
        "CT115",
        "continuum.client.instance.Continuum.cancel continuum.client.handles.RunHandle.cancel"
        " continuum.client.handles.AsyncRunHandle.cancel",
        hint="cancel a child by its handle (continuum.start_child(...).cancel), other runs from an activity",
    ),
    forbid(
        "CT115",
        "continuum.client.handles.RunHandle.result continuum.client.handles.AsyncRunHandle.result",
        hint="await a child: continuum.start_child(...), or the workflow itself",
    ),
    # ------------------------------------------------------------------ the raw event loop
    forbid("CT116", "uvloop nest_asyncio anyio.run trio.run"),
)
