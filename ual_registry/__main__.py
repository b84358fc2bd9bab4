"""``python -m ual_registry`` is ``ual``."""

from ual_registry.cli.main import main

if __name__ == "__main__":
    main()
