"""The AIR format: bytes and documents. It knows no model, no framework and no tensor mathematics."""
