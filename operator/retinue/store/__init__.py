"""Adapter of Postgres: history of health and usage."""
