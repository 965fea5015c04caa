"""``python -m glc_toolkit`` is ``glc``."""

from glc_toolkit.cli import main

main()
