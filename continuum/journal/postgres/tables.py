"""Here lives the schema as SQLAlchemy sees it; ``migrations/`` creates it, and a test compares the two.

What the shape is for:

- ``continuum_runs`` is narrow and updated once per commit, so its hot update stays HOT: no index, and no predicate of
  one, touches ``last_seq``, ``state`` or ``grants``, and a fillfactor of 70 leaves room for the new version.
- ``continuum_events`` is append-only and partitioned by run id, which begins with the run's creation time: a month of
  runs is one partition, with all their events.
- Payloads are ``json``, never ``jsonb``: jsonb sorts keys, and a dict that workflow code iterates must not change.
- Nothing refers to anything by a foreign key: a letter, a task or an event must never lock a row of a run.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

__all__ = [
    "FORMAT",
    "activity_results",
    "attributes",
    "delivery_ids",
    "events",
    "inbox",
    "ingress_keys",
    "metadata",
    "runs",
    "schema_row",
    "snapshots",
    "tasks",
    "workers",
    "workflow_versions",
]

# What this release reads and writes. A release that cannot work with older tables raises it in its migration.
FORMAT: Final = 1

metadata: Final = MetaData()

_ID: Final = Uuid(as_uuid=False)
_MOMENT: Final = DateTime(timezone=True)
_NOW: Final = text("clock_timestamp()")
_BUSY: Final = {"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 2000}


runs: Final = Table(
    "continuum_runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("chain_id", _ID, nullable=False),
    Column("lease_owner", _ID),
    Column("parent_id", _ID),
    Column("parent_chain_id", _ID),
    Column("continued_from", _ID),
    Column("lease_token", BigInteger, nullable=False, server_default="0"),
    Column("wake_at", _MOMENT),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("started_at", _MOMENT),
    Column("completed_at", _MOMENT),
    Column("retention_until", _MOMENT),
    Column("cancel_requested_at", _MOMENT),
    Column("stuck_since", _MOMENT),
    Column("last_seq", Integer, nullable=False),
    Column("grants", Integer, nullable=False, server_default="0"),
    Column("parent_command", Integer),
    Column("version", Integer, nullable=False),
    Column("is_tip", Boolean, nullable=False, server_default=text("true")),
    Column("state", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("version_hash", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("trace_context", Text),
    Column("stuck_reason", Text),
    Column("parent_close", Text),
    info={"storage": {"fillfactor": 70}},
)
# Free and due, by the code they are pinned to: one probe for each that a dispatcher may take, however long the queue of
# others; and, by a skip scan, all the code that free runs are pinned to.
Index(
    "continuum_runs_code",
    runs.c.workflow,
    runs.c.version,
    runs.c.version_hash,
    runs.c.wake_at,
    postgresql_where=text("lease_owner is null and wake_at is not null"),
)
# Those set aside, for the dispatcher that brings other code. A run that works never has the column written.
Index(
    "continuum_runs_stuck",
    runs.c.workflow,
    runs.c.version,
    runs.c.stuck_since,
    postgresql_where=text("stuck_since is not null"),
)
# Mine and due; and, by a skip scan, all owners there are.
Index(
    "continuum_runs_owned",
    runs.c.lease_owner,
    runs.c.wake_at,
    postgresql_where=text("lease_owner is not null"),
)
Index("continuum_runs_tip", runs.c.chain_id, unique=True, postgresql_where=text("is_tip"))
# The children of a chain: of each the run that stands for it now.
Index(
    "continuum_runs_children",
    runs.c.parent_chain_id,
    runs.c.id,
    postgresql_where=text("parent_chain_id is not null and is_tip"),
)
# Searches: newest first, or a span of time. Neither column ever changes. (Not by id alone: the time in an id is when a
# run was thought of, a scheduled one's when it should have started.)
Index("continuum_runs_created", runs.c.created_at, runs.c.id)

events: Final = Table(
    "continuum_events",
    metadata,
    Column("run_id", _ID, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("command", Integer),
    Column("type", Text, nullable=False),
    Column("name", Text),
    Column("payload", JSON),
    Column("location", Text),
    PrimaryKeyConstraint("run_id", "seq", name="continuum_events_pkey"),
    postgresql_partition_by="range (run_id)",
)

inbox: Final = Table(
    "continuum_inbox",
    metadata,
    Column("chain_id", _ID, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("run_id", _ID),
    Column("at", _MOMENT, nullable=False, server_default=_NOW),
    Column("command", Integer),
    Column("kind", Text, nullable=False),
    Column("name", Text),
    Column("payload", JSON),
    PrimaryKeyConstraint("chain_id", "id", name="continuum_inbox_pkey"),
    info={"storage": _BUSY},
)
# The oldest letters of all: what an owner reads when a hundred thousand arrive at once.
Index("continuum_inbox_oldest", inbox.c.id)

tasks: Final = Table(
    "continuum_tasks",
    metadata,
    Column("run_id", _ID, nullable=False),
    Column("claimed_by", _ID),
    Column("available_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("claimed_at", _MOMENT),
    Column("lease_expires_at", _MOMENT),
    Column("heartbeat_at", _MOMENT),
    Column("dispatched_at", _MOMENT),
    Column("command", Integer, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("max_attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("dispatch_no", Integer, nullable=False, server_default="0"),
    Column("state", Text, nullable=False),
    Column("activity", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("idempotency_key", Text),
    Column("heartbeat", JSON),
    Column("errors", JSON),
    PrimaryKeyConstraint("run_id", "command", name="continuum_tasks_pkey"),
    info={"storage": _BUSY},
)
Index(
    "continuum_tasks_free",
    tasks.c.queue,
    tasks.c.executor,
    tasks.c.priority.desc(),
    tasks.c.available_at,
    postgresql_where=text("state = 'available'"),
)
# Free tasks of an executor, whatever their queue: whether one is due, and when the next will be.
Index(
    "continuum_tasks_due",
    tasks.c.executor,
    tasks.c.available_at,
    postgresql_where=text("state = 'available'"),
)
# What a worker has claimed or dispatched; and, by a skip scan, all who have.
Index("continuum_tasks_claimed", tasks.c.claimed_by, postgresql_where=text("claimed_by is not null"))
# Dispatched and never claimed, or claimed and over its time. A local pool's tasks are not in it.
Index("continuum_tasks_expiring", tasks.c.lease_expires_at, postgresql_where=text("lease_expires_at is not null"))

workers: Final = Table(
    "continuum_workers",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("started_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("heartbeat_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("expires_at", _MOMENT, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("workflows", ARRAY(Text), nullable=False),
    Column("version_hashes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    info={"storage": {"fillfactor": 50}},
)

attributes: Final = Table(
    "continuum_attributes",
    metadata,
    Column("run_id", _ID, primary_key=True),
    Column("attributes", JSONB, nullable=False),
)
Index(
    "continuum_attributes_search",
    attributes.c.attributes,
    postgresql_using="gin",
    postgresql_ops={"attributes": "jsonb_path_ops"},
)

activity_results: Final = Table(
    "continuum_activity_results",
    metadata,
    Column("activity", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("run_id", _ID, nullable=False),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("payload", JSON, nullable=False),
    PrimaryKeyConstraint("activity", "key", name="continuum_activity_results_pkey"),
)

ingress_keys: Final = Table(
    "continuum_ingress_keys",
    metadata,
    Column("namespace", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("run_id", _ID, nullable=False),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("namespace", "workflow", "key", name="continuum_ingress_keys_pkey"),
)

delivery_ids: Final = Table(
    "continuum_delivery_ids",
    metadata,
    Column("chain_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False, server_default=_NOW),
    PrimaryKeyConstraint("chain_id", "name", "delivery_id", name="continuum_delivery_ids_pkey"),
)

workflow_versions: Final = Table(
    "continuum_workflow_versions",
    metadata,
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("retention_us", BigInteger),
    Column("first_seen_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("source", Text, nullable=False),
    Column("signals", JSON),
    PrimaryKeyConstraint("name", "hash", name="continuum_workflow_versions_pkey"),
)

# The folded beginning of a long history, so that its run is loaded faster: a copy, which may be missing or deleted.
snapshots: Final = Table(
    "continuum_snapshots",
    metadata,
    Column("run_id", _ID, primary_key=True),
    Column("made_at", _MOMENT, nullable=False, server_default=_NOW),
    Column("through_seq", Integer, nullable=False),
    Column("format", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

# One row: what the tables are, for a release that must know whether it can work with them.
schema_row: Final = Table(
    "continuum_schema",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("format", Integer, nullable=False),
    Column("release", Text, nullable=False),
    Column("migrated_at", _MOMENT, nullable=False, server_default=_NOW),
)
