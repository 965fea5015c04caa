"""Measurements; and the codecs to compare with, registered through the same hook as any plugin's."""

from glc_toolkit.hookspecs import hookimpl


@hookimpl
def glc_codecs():
    from glc_toolkit.evaluation import classic, learned, program

    return {**classic.FAMILIES, "compressai": learned.compressai_family, "program": program.family}
