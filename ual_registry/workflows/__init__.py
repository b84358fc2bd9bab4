"""One function per thing that a user wants. The command line and the package's own names call only these."""
