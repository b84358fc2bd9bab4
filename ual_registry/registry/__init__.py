"""The registry: a database of adapters and a store of their bytes. SQL and files here, tensors nowhere."""
