"""Registration: one line a component."""

from glc_toolkit import hookimpl


@hookimpl
def glc_losses():
    from glc_example.focal_frequency import FocalFrequency

    return {"focal_frequency": FocalFrequency}


@hookimpl
def glc_quantizers():
    from glc_example.cosine import CosineQuantizer

    return {"cosine": CosineQuantizer}
