"""The environment in which alembic runs the migrations: one connection, one transaction, our tables."""

from alembic import context
from sqlalchemy import create_engine

from ual_registry.registry.schema import is_ours, metadata_of


def run(connection):
    context.configure(
        connection=connection, target_metadata=metadata_of(connection), render_as_batch=True, include_object=is_ours
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
    with engine.begin() as own:
        run(own)
