"""Logs, metrics and health endpoints of every role."""
