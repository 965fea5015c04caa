"""The built-in components, registered through the same hooks as any plugin's."""

from glc_toolkit.hookspecs import hookimpl


@hookimpl
def glc_backbones():
    from glc_toolkit.components.backbones.thumbnail import ThumbnailBackbone
    from glc_toolkit.components.backbones.vqgan import VQGAN

    return {"vqgan": VQGAN, "thumbnail": ThumbnailBackbone}


@hookimpl
def glc_quantizers():
    from glc_toolkit.components.quantizers import vq_pytorch
    from glc_toolkit.components.quantizers.nearest import NearestCode

    return {
        "nearest": NearestCode,
        "vq": vq_pytorch.vector_quantize,
        "fsq": vq_pytorch.fsq,
        "lfq": vq_pytorch.lfq,
        "simvq": vq_pytorch.sim_vq,
        "residual_vq": vq_pytorch.residual_vq,
    }


@hookimpl
def glc_transforms():
    from glc_toolkit.components.transforms.conditional import ConditionalTransform
    from glc_toolkit.components.transforms.latent import GatedTransform, PlainTransform
    from glc_toolkit.components.transforms.predicted import PredictedTransform
    from glc_toolkit.components.transforms.scaled import ScaledTransform

    return {
        "gated": GatedTransform,
        "plain": PlainTransform,
        "scaled": ScaledTransform,
        "conditional": ConditionalTransform,
        "predicted": PredictedTransform,
    }


@hookimpl
def glc_temporals():
    from glc_toolkit.components.temporals.latent_context import LatentContext
    from glc_toolkit.components.temporals.moved_context import MovedContext

    return {"latent_context": LatentContext, "moved_context": MovedContext}


@hookimpl
def glc_hypers():
    from glc_toolkit.components.hypers.factorized import FactorizedHyper
    from glc_toolkit.components.hypers.spatial_categorical import SpatialCategoricalHyper
    from glc_toolkit.components.hypers.spatio_temporal_categorical import SpatioTemporalCategoricalHyper

    return {
        "spatial_categorical": SpatialCategoricalHyper,
        "spatio_temporal_categorical": SpatioTemporalCategoricalHyper,
        "factorized": FactorizedHyper,
    }


@hookimpl
def glc_entropy_models():
    from glc_toolkit.components.entropy.categorical import CategoricalTable
    from glc_toolkit.components.entropy.factorized import FactorizedTable
    from glc_toolkit.components.entropy.gaussian import GaussianTable

    return {"gaussian": GaussianTable, "categorical": CategoricalTable, "factorized": FactorizedTable}


@hookimpl
def glc_contexts():
    from glc_toolkit.components.contexts.spatial import (
        CheckerboardContext,
        DualCheckerboardContext,
        FourPartContext,
        NoContext,
    )

    return {
        "four_part": FourPartContext,
        "checkerboard": CheckerboardContext,
        "dual_checkerboard": DualCheckerboardContext,
        "none": NoContext,
    }


@hookimpl
def glc_losses():
    from glc_toolkit.components import losses

    return {
        "rate": losses.rate.Rate,
        "latent_mse": losses.latent_mse.LatentMSE,
        "code_prediction": losses.code_prediction.CodePrediction,
        "codebook": losses.codebook.Codebook,
        "l1": losses.pixel.L1,
        "flicker": losses.pixel.Flicker,
        "thumbnail_mse": losses.pixel.ThumbnailMSE,
        "lpips": losses.perceptual.LPIPSLoss,
        "dists": losses.perceptual.DISTSLoss,
        "gan": losses.gan.PatchGAN,
        "projected_gan": losses.gan.ProjectedGAN,
        "grid": losses.perceptual.GridLoss,
    }


@hookimpl
def glc_metrics():
    from glc_toolkit.components import metrics

    return {
        "psnr": metrics.pixel.PSNR,
        "ms-ssim": metrics.pixel.MSSSIM,
        "lpips-alex": metrics.lpips.lpips_alex,
        "lpips-vgg": metrics.lpips.lpips_vgg,
        "dists": metrics.dists.DISTS,
        "grid": metrics.grid.Grid,
    }


@hookimpl
def glc_zoo():
    from glc_toolkit.paths import shipped_zoo

    return {path.parent.name: path.parent for path in shipped_zoo().glob("*/config.json")}
