"""Codecs to compare, by the names that the command line takes: ``avif``, ``jxl:0,10``, ``glc-image-0.03:0,1.5``.

A factory of the hook ``glc_codecs`` gives a :class:`Family`. It may take ``argument``, the text after its name
(``compressai:ARGUMENT``), and ``settings``, the list of those that are asked for.
"""

from collections.abc import Iterable
from contextlib import suppress

from glc_toolkit import registry
from glc_toolkit.evaluation import learned
from glc_toolkit.evaluation.family import ClipCodec, Codec, Family
from glc_toolkit.types import ModelFileError

__all__ = ["ClipCodec", "Codec", "Family", "able", "named"]


def able(names: Iterable[str]) -> list[Family]:
    """The families of these names that can run here; the others are left out."""
    found = []
    for name in names:
        with suppress(ValueError, ModelFileError):
            found.append(named(name)[0])
    return found


def named(
    text: str, settings: str = "", effort: int = 0, max_pixels: int | None = None, device: str = "cpu"
) -> tuple[Family, list]:
    """The family and the settings that ``text`` names.

    Args:
        text: ``NAME[:SETTING,SETTING...]``, or for a codec that takes an argument ``NAME:ARGUMENT[:SETTINGS]``.
        settings: taken if ``text`` has none. If neither has any, the family's default settings are taken.
        effort, max_pixels, device: for GLC models alone.

    Raises ``ValueError`` for a setting that the codec lacks, and ``ModelFileError`` for a model that is not there.
    """
    name, _, rest = text.partition(":")
    if name in registry.names("codec"):
        argument = ""
        if "argument" in registry.parameters(registry.components("codec")[name][0]):
            argument, _, rest = rest.partition(":")
        asked = [s for s in (rest or settings).split(",") if s]
        family = registry.build("codec", {"name": name}, argument=argument, settings=asked)
    else:
        # hf://owner/name and C:\folder have a colon of their own
        name, rest = text.rpartition(":")[::2] if _numbers(text.rpartition(":")[2]) and ":" in text else (text, "")
        family = learned.glc_family(name, effort, max_pixels, device)
    if isinstance(family.settings[0], str):
        chosen = list(dict.fromkeys(s for s in (rest or settings).split(",") if s))
        if unknown := [setting for setting in chosen if setting not in family.settings]:
            known = ", ".join(family.settings)
            raise ValueError(f"{family.name} has no setting {', '.join(unknown)}; it has {known}")
        return family, chosen or list(family.default)
    try:
        chosen = [float(s) for s in (rest or settings).split(",") if s]
    except ValueError:
        raise ValueError(f"the settings of {family.name} are numbers with commas between, not {rest!r}") from None
    chosen = list(dict.fromkeys(int(s) if s.is_integer() else s for s in chosen))
    low, high = sorted((family.settings[0], family.settings[-1]))
    for setting in chosen:
        if not low <= setting <= high:
            raise ValueError(f"{family.name}: quality has to be between {low:g} and {high:g}, not {setting:g}")
        if isinstance(family.settings, range) and setting not in family.settings:
            raise ValueError(f"{family.name}: quality has to be a whole number, not {setting:g}")
    return family, chosen or list(family.default)


def _numbers(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789.,-")
