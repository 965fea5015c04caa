"""What every component has to do, as pytest checks over everything registered.

``glc plugins check PLUGIN`` runs them on one plugin's components; this package's own tests run them on the built-ins.
A plugin's own tests run them with two lines::

    from glc_toolkit.conformance.test_components import *

    PLUGIN = "my_plugin"

A factory is built with the arguments its slot supplies; one that needs more, or is too large to check so, names
them in an attribute ``example_args``.
"""
