"""Limits and quotas: what a project may use, what it uses."""
