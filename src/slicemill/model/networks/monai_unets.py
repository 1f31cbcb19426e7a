"""MONAI's networks for segmentation, in the sizes that their users publish."""

from __future__ import annotations

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import nn

from slicemill.errors import ConfigError

#: Doublings of the first filters, and so halvings of the image: sizes are multiples of 16.
_DEPTH = 4


def _channels(filters: int) -> tuple[int, ...]:
    return tuple(filters * 2**level for level in range(_DEPTH + 1))


def unet(filters: int = 32, dropout: float = 0.0) -> nn.Module:
    """Residual U-Net (Kerfoot 2018), two units a level; input (N, 3, H, W), logits (N, 1, H, W)."""
    return UNet(
        spatial_dims=2,
        in_channels=3,
        out_channels=1,
        channels=_channels(filters),
        strides=(2,) * _DEPTH,
        num_res_units=2,
        norm="batch",
        dropout=dropout,
    )


def attention_unet(filters: int = 32, dropout: float = 0.0) -> nn.Module:
    """Attention U-Net (Oktay 2018); input (N, 3, H, W), logits (N, 1, H, W)."""
    return AttentionUnet(
        spatial_dims=2,
        in_channels=3,
        out_channels=1,
        channels=_channels(filters),
        strides=(2,) * _DEPTH,
        dropout=dropout,
    )


def segresnet(filters: int = 16, dropout: float = 0.0) -> nn.Module:
    """SegResNet (Myronenko 2018), `filters` a multiple of 8; input (N, 3, H, W), logits (N, 1, H, W)."""
    _require_multiple("monai-segresnet", filters, 8)
    return SegResNet(
        spatial_dims=2, init_filters=filters, in_channels=3, out_channels=1, dropout_prob=dropout or None
    )


def swin_unetr(filters: int = 24, dropout: float = 0.0) -> nn.Module:
    """Swin UNETR (Hatamizadeh 2022), `filters` a multiple of 12; input (N, 3, H, W), logits (N, 1, H, W)."""
    _require_multiple("monai-swin-unetr", filters, 12)
    return SwinUNETR(spatial_dims=2, in_channels=3, out_channels=1, feature_size=filters, drop_rate=dropout)


def _require_multiple(network: str, filters: int, divisor: int) -> None:
    if filters % divisor:
        raise ConfigError(
            f"{network} takes other --filters", expected=f"a multiple of {divisor}", found=filters
        )
