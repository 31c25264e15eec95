"""Run by Alembic. Only ever renders SQL: `store/migrate.py` executes it over asyncpg, in one transaction."""

from alembic import context

context.configure(
    dialect_name="postgresql",
    as_sql=True,
    output_buffer=context.config.output_buffer,
    transactional_ddl=False,
)
context.run_migrations()
