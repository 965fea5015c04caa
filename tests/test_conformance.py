"""The built-ins pass what plugins have to pass."""

from glc_toolkit.conformance.test_components import *  # noqa: F403
