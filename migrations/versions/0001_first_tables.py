"""The first tables.

The DDL is written out, unqualified, for the schema that `env.py` puts into the search path. What it is for stands in
`continuum/journal/postgres/tables.py`; a test compares the two.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table continuum_runs (
            id uuid primary key,
            chain_id uuid not null,
            lease_owner uuid,
            parent_id uuid,
            continued_from uuid,
            lease_token bigint not null default 0,
            wake_at timestamptz,
            created_at timestamptz not null default clock_timestamp(),
            started_at timestamptz,
            completed_at timestamptz,
            retention_until timestamptz,
            cancel_requested_at timestamptz,
            last_seq int not null,
            grants int not null default 0,
            version int not null,
            is_tip boolean not null default true,
            state text not null,
            namespace text not null,
            workflow text not null,
            version_hash text not null,
            idempotency_key text,
            trace_context text,
            stuck_reason text
        ) with (fillfactor = 70);
        create index continuum_runs_due on continuum_runs (workflow, version, wake_at)
            where lease_owner is null and wake_at is not null;
        create index continuum_runs_owned on continuum_runs (lease_owner, wake_at) where lease_owner is not null;
        create unique index continuum_runs_tip on continuum_runs (chain_id) where is_tip;

        create table continuum_events (
            run_id uuid not null,
            at_us bigint not null,
            seq int not null,
            command int,
            type text not null,
            name text,
            payload json,
            location text,
            primary key (run_id, seq)
        ) partition by range (run_id);
        create table continuum_events_default partition of continuum_events default;

        create table continuum_inbox (
            chain_id uuid not null,
            id bigint generated always as identity,
            run_id uuid,
            at timestamptz not null default clock_timestamp(),
            command int,
            kind text not null,
            name text,
            payload json,
            primary key (chain_id, id)
        ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
        create index continuum_inbox_oldest on continuum_inbox (id);

        create table continuum_tasks (
            run_id uuid not null,
            claimed_by uuid,
            available_at timestamptz not null default clock_timestamp(),
            claimed_at timestamptz,
            lease_expires_at timestamptz,
            heartbeat_at timestamptz,
            dispatched_at timestamptz,
            published_at timestamptz,
            command int not null,
            attempt int not null default 1,
            max_attempts int not null,
            priority int not null default 0,
            dispatch_no int not null default 0,
            state text not null,
            activity text not null,
            queue text not null,
            executor text not null,
            arguments json not null,
            policy json not null,
            idempotency_key text,
            heartbeat json,
            errors json,
            primary key (run_id, command)
        ) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
        create index continuum_tasks_free on continuum_tasks (queue, executor, priority desc, available_at)
            where state = 'available';
        create index continuum_tasks_claimed on continuum_tasks (claimed_by) where claimed_by is not null;

        create table continuum_workers (
            id uuid primary key,
            started_at timestamptz not null default clock_timestamp(),
            heartbeat_at timestamptz not null default clock_timestamp(),
            expires_at timestamptz not null,
            pid int not null,
            hostname text not null,
            queues text[] not null,
            workflows text[] not null
        ) with (fillfactor = 50);

        create table continuum_attributes (
            run_id uuid primary key,
            attributes jsonb not null
        );
        create index continuum_attributes_search on continuum_attributes using gin (attributes jsonb_path_ops);

        create table continuum_activity_results (
            activity text not null,
            key text not null,
            run_id uuid not null,
            created_at timestamptz not null default clock_timestamp(),
            payload json not null,
            primary key (activity, key)
        );

        create table continuum_ingress_keys (
            namespace text not null,
            workflow text not null,
            key text not null,
            run_id uuid not null,
            created_at timestamptz not null default clock_timestamp(),
            primary key (namespace, workflow, key)
        );

        create table continuum_delivery_ids (
            chain_id uuid not null,
            name text not null,
            delivery_id text not null,
            created_at timestamptz not null default clock_timestamp(),
            primary key (chain_id, name, delivery_id)
        );

        create table continuum_workflow_versions (
            name text not null,
            hash text not null,
            version int not null,
            retention_us bigint,
            first_seen_at timestamptz not null default clock_timestamp(),
            source text not null,
            primary key (name, hash)
        );

        create table continuum_schema (
            only_row boolean primary key default true check (only_row),
            format int not null,
            release text not null,
            migrated_at timestamptz not null default clock_timestamp()
        );
        insert into continuum_schema (format, release) values (1, '0.1.0');
    """)
