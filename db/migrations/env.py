"""Alembic runs this for every migration; svid hands it an open connection that already holds the write lock."""

from alembic import context

from svid.store.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
