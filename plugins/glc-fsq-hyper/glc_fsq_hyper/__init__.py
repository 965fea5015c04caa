"""Registration: one hook a kind."""

from glc_toolkit import hookimpl


@hookimpl
def glc_hypers():
    from glc_fsq_hyper.hyper import FSQHyper

    return {"fsq": FSQHyper}


@hookimpl
def glc_entropy_models():
    from glc_fsq_hyper.entropy import GridTable

    return {"grid": GridTable}
