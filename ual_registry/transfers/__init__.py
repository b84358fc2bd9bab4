"""Carrying an adapter to another base model: plan it, project every entry, record what became of it."""
