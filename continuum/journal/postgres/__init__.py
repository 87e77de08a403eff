"""Here lives the journal in Postgres: the only room with SQL in it."""
