"""``python -m glc_toolkit.cli`` is ``glc``, too."""

from glc_toolkit.cli import main

main()
