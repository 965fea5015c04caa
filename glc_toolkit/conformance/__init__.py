"""What every component has to do, as pytest checks over everything registered.

``glc plugins check PLUGIN`` runs them on one plugin's components; this package's own tests run them on the built-ins.
A plugin's own tests run them with two lines::

    from glc_toolkit.conformance.test_components import *

    PLUGIN = "my_plugin"

A factory is built with the arguments that its slot supplies. One that needs more, or is too large to be checked so,
names further arguments in an attribute ``example_args``. A component may leave out an option, as
:data:`glc_toolkit.types.OPTIONS` calls it: its check is skipped, and says what will not work.
"""
