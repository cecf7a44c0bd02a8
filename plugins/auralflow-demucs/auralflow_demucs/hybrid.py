"""The U-Net of two branches that `HDemucs` and `HTDemucs` share.

Shapes: B batch, S target, C channel, H hidden channel, L sample, F frequency, T frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from auralflow_demucs.levels import HDecLayer, HEncLayer, ScaledEmbedding, Shape
from auralflow_demucs.params import HybridParams
from auralflow_demucs.plan import HybridLevel
from auralflow_demucs.products import in_pieces
from auralflow_demucs.residual import DConv, rescale_weights
from auralflow_demucs.scaling import Level
from auralflow_demucs.spectrum import Spectrogram, as_channels, from_channels, with_phase


class HybridUNet(nn.Module, ABC):
    """A U-Net over frequency and one over time, whose estimates are added (Défossez, 2021, section 3.1).

    Args:
        params: The settings.
        num_channels: Channels C.
        num_targets: Number of estimates S.
        is_old: See `Spectrogram`.
        attention_from: First level whose residual branches have attention.
        lstm_from: First level whose residual branches have an LSTM.
    """

    def __init__(
        self,
        params: HybridParams,
        *,
        num_channels: int,
        num_targets: int,
        is_old: bool = False,
        attention_from: int,
        lstm_from: int,
    ) -> None:
        super().__init__()
        self.num_targets = num_targets
        self.cac = params.cac
        self.spectrogram = Spectrogram(params.nfft, is_old=is_old)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.tencoder, self.tdecoder = nn.ModuleList(), nn.ModuleList()
        self.freq_emb: ScaledEmbedding | None = None
        self.freq_emb_scale = params.freq_emb
        inputs, time_inputs = num_channels * (1 + params.cac), num_channels
        outputs, time_outputs = num_targets * inputs, num_targets * time_inputs
        for index, level in enumerate(params.levels()):
            ways = (attention_from <= index, lstm_from <= index)
            self._add_level(params, index, level, (inputs, outputs), (time_inputs, time_outputs), ways)
            inputs = outputs = level.width
            time_inputs = time_outputs = level.time_width
            if index == 0 and params.freq_emb:
                count = level.bins // params.stride
                self.freq_emb = ScaledEmbedding(count, inputs, scale=params.emb_scale, smooth=params.emb_smooth)
        if params.rescale:
            rescale_weights(self, params.rescale)

    def _add_level(
        self,
        params: HybridParams,
        index: int,
        level: HybridLevel,
        ends: tuple[int, int],
        time_ends: tuple[int, int],
        ways: tuple[bool, bool],
    ) -> None:
        """Add a level to the branches; `ends` are the channels that come in and, on the way up, go out."""
        groups = params.norm_groups if index >= params.norm_starts else 0
        kernel, stride = (params.kernel_size, params.stride)
        time_shape = Shape(False, kernel, stride, True, groups, params.rewrite)
        shape = Shape(True, kernel, stride, not level.merges, groups, params.rewrite)
        if not level.is_split:
            shape = Shape(False, 2 * params.time_stride, params.time_stride, True, groups, params.rewrite)

        def dconv(width: int, mode: int) -> DConv | None:
            if not params.dconv_mode & mode:
                return None
            return DConv(
                width,
                compress=params.dconv_comp,
                depth=params.dconv_depth,
                init=params.dconv_init,
                attention=ways[0],
                lstm=ways[1],
            )

        is_last = index == 0
        width = level.width
        self.encoder.append(HEncLayer(ends[0], width, shape, context=params.context_enc, dconv=dconv(width, 1)))
        up = HDecLayer(width, ends[1], shape, context=params.context, dconv=dconv(width, 2), is_last=is_last)
        self.decoder.insert(0, up)
        if level.is_split:
            width, empty = level.time_width, level.merges
            down = HEncLayer(
                time_ends[0],
                width,
                time_shape,
                context=params.context_enc,
                dconv=None if empty else dconv(width, 1),
                is_empty=empty,
            )
            up = HDecLayer(
                width,
                time_ends[1],
                time_shape,
                context=params.context,
                dconv=None if empty else dconv(width, 2),
                is_last=is_last,
                is_empty=empty,
            )
            self.tencoder.append(down)
            self.tdecoder.insert(0, up)

    @abstractmethod
    def bottleneck(self, x: Tensor, xt: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Map what the last level's encoders give, `(B, H, F, T)` and `(B, H, T)`, to what is added to it.

        None stands for nothing. Where the branches are one, the first is `(B, H, T)`, or its F is 1.
        """

    def forward(self, audio: Tensor) -> Tensor:
        """Estimate the targets.

        Args:
            audio: `(B, C, L)`, of any length from one sample on.

        Returns:
            `(B, S, C, L)`.
        """
        batch, channels, length = audio.shape
        x, level, xt, level_t = self._unet(self._features(audio), audio)
        time = level_t.restored(xt).reshape(batch, self.num_targets, channels, length)
        phases = None if self.cac else self.spectrogram(audio)
        # One target after the other: the inverse's frames are the largest tensors of all.
        targets = [self._audio(level.restored(target), phases, length) for target in x.chunk(self.num_targets, dim=1)]
        return torch.stack(targets, dim=1) + time

    def _features(self, audio: Tensor) -> Tensor:
        """Return what the frequency branch sees of the audio, `(B, C, F, T)`."""
        spectrogram = self.spectrogram(audio)
        return as_channels(spectrogram) if self.cac else spectrogram.abs()

    def _audio(self, target: Tensor, phases: Tensor | None, length: int) -> Tensor:
        """Return the audio `(B, C, L)` of what the frequency branch gives for a target."""
        frames = from_channels(target) if phases is None else with_phase(target, phases)
        audio: Tensor = self.spectrogram.inverse(frames, length)
        return audio

    def _unet(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Level, Tensor, Level]:
        """Map `(B, C, F, T)` and `(B, C, L)` to the targets', `(B, S C, F, T)` and `(B, S C, L)`.

        Those are standardized; the levels of what came in go with them. Who calls it should not keep the features: they
        are as large as anything between the layers, and nothing here needs them once the first layer is through.
        """
        level, level_t = Level.of(x), Level.of(xt)
        x, xt = level.removed(x), level_t.removed(xt)
        skips: list[Tensor] = []
        skips_t: list[Tensor] = []
        lengths: list[int] = []
        lengths_t: list[int] = []
        for index, encode in enumerate(self.encoder):
            lengths.append(x.shape[-1])
            inject = None
            if index < len(self.tencoder):
                lengths_t.append(xt.shape[-1])
                encode_t = self.tencoder[index]
                xt = encode_t(xt)
                if encode_t.is_empty:
                    inject = xt
                else:
                    skips_t.append(xt)
            x = encode(x, inject)
            if index == 0 and self.freq_emb is not None:
                x = torch.add(x, self.freq_emb_scale * self.freq_emb(), out=x if in_pieces(x) else None)
            skips.append(x)
        deep, deep_t = self.bottleneck(x, xt)
        for index, decode in enumerate(self.decoder, start=len(self.tdecoder) - len(self.decoder)):
            decode_t = self.tdecoder[index] if index >= 0 else None
            assert isinstance(decode, HDecLayer) and isinstance(decode_t, HDecLayer | None)
            if decode_t is not None and decode_t.is_empty:
                gated = decode.gated(deep, skips.pop())
                deep = decode.widened(gated, lengths.pop())
                deep_t = decode_t.widened(gated.squeeze(2), lengths_t.pop())
                continue
            deep = decode(deep, skips.pop(), lengths.pop())
            if decode_t is not None:
                deep_t = decode_t(deep_t, skips_t.pop(), lengths_t.pop())
        assert deep is not None and deep_t is not None
        return deep, level, deep_t, level_t
