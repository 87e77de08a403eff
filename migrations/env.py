"""Here lives how Alembic reaches the database: over a connection that `continuum.journal.postgres.migrate` hands it.

`continuum migrate` is the way to run migrations; it takes a lock and creates partitions as well. To work on a migration
with Alembic's own command: ``alembic -c migrations/alembic.ini -x url=postgresql://… -x schema=public current``.
"""

from alembic import context
from sqlalchemy import Connection, create_engine
from sqlalchemy.sql.elements import quoted_name


def run(connection: Connection, schema: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
    connection.exec_driver_sql(f"set search_path to {quoted}")
    connection.commit()
    context.configure(
        connection=connection,
        version_table="continuum_alembic_version",
        version_table_schema=quoted_name(schema, quote=True),
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given, context.config.attributes["schema"])
else:
    arguments = context.get_x_argument(as_dictionary=True)
    engine = create_engine(arguments["url"])
    with engine.connect() as opened:
        run(opened, arguments.get("schema", "public"))
    engine.dispose()
