"""Dispatch: which adapter answers a query, and why."""
