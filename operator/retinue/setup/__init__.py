"""Composition root of the setup Job: database migrations, credentials and presets, each made only if absent."""
