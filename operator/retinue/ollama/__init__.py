"""Adapter of the Ollama and agent HTTP APIs."""
