"""Write the index of the shipped binder documents anew; a test keeps it equal to them.

python -m ual_registry.binders.index
"""

from __future__ import annotations

from ual_registry.binders.load import INDEX, make_index

__all__: list[str] = []

if __name__ == "__main__":
    INDEX.write_text(make_index(), encoding="utf-8")
