"""Builders of child objects, one file per kind; each returns the whole object or None."""
