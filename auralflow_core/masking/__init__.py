"""From masks to audio: ratio masks, extension above a cut-off, Wiener filtering, all by windows of frames."""

from auralflow_core.masking.masks import extend_masks, ratio_masks
from auralflow_core.masking.post import PostProcessing
from auralflow_core.masking.wiener import wiener
from auralflow_core.masking.windows import Magnitudes, OverlapAdd, SpectrogramWindows

__all__ = [
    "Magnitudes",
    "OverlapAdd",
    "PostProcessing",
    "SpectrogramWindows",
    "extend_masks",
    "ratio_masks",
    "wiener",
]
