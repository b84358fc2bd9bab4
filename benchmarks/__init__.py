"""One script per figure that the README quotes; each measures its peer in the same run and prints a ratio."""
