"""Loaded base models: how they are read, what is put on them, and how their texts line up."""
