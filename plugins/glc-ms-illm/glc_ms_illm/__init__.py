"""Registration: one hook a kind."""

from glc_toolkit import hookimpl


@hookimpl
def glc_codecs():
    from glc_ms_illm.codec import family

    return {"ms-illm": family}


@hookimpl
def glc_losses():
    from glc_ms_illm.loss import LabelledGAN

    return {"labelled_gan": LabelledGAN}
