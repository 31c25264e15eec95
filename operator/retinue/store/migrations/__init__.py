"""Alembic's home: which SQL leads from one schema version to the next. The SQL itself lies in `sql/`, plain."""
