"""Registration: one hook a kind."""

from glc_toolkit import hookimpl


@hookimpl
def glc_losses():
    from glc_vit_gan.loss import DISTSViTGAN

    return {"dists_vit_gan": DISTSViTGAN}
