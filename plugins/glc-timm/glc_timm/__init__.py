"""Registration: one hook a kind."""

from glc_toolkit import hookimpl


@hookimpl
def glc_backbones():
    from glc_timm.backbone import TimmBackbone

    return {"timm": TimmBackbone}
