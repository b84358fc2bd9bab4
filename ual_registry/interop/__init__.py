"""Other formats at the border: files in, files out, and every number unchanged."""
