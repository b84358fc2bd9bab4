"""Every binder against the real classes of transformers; nothing here knows a family by name."""
