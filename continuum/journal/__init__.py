"""Here lives the only room that stores: one protocol, two wings (memory, Postgres)."""
