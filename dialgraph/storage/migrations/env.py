"""Alembic's entry point: runs the migrations on the connection from `dialgraph.storage.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
