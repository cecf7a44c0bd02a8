"""Checks of sizes: any length, batch, channel count and number of targets in, estimates of the same size out."""

from __future__ import annotations

from torch import Tensor

from auralflow_core.model import SeparationModel
from auralflow_core.testing.subject import Subject, network_input, noise, separate
from auralflow_core.testing.verdict import check


class ShapeChecks(Subject):
    """Estimates are `(batch, target, channel, time)` and as long as the input, whatever its size."""

    def test_mono_and_stereo_with_one_or_two_targets(self) -> None:
        """The network builds and runs for 1 and 2 channels, each with 1 and 2 targets."""
        for num_channels in (1, 2):
            for num_targets in (1, 2):
                model = self.evaluation_model(num_channels=num_channels, num_targets=num_targets)
                self._check_shape(model, noise(2, num_channels, 1999))

    def test_number_of_targets_is_respected(self) -> None:
        """A model of three targets gives three estimates, which are not one estimate three times over."""
        model = self.evaluation_model(num_targets=3, num_channels=2)
        self._check_shape(model, noise(1, 2, 1500))

    def test_any_length(self) -> None:
        """Audio of odd lengths, from one sample to more than a training chunk, gives estimates of that length."""
        model = self.evaluation_model()
        data = model.config.dataset
        window, chunk = data.window_size, data.chunk_frames
        for length in (1, window - 1, window, window + 1, chunk // 2 + 3, chunk - 1, chunk, chunk + 1, 2 * chunk + 77):
            self._check_shape(model, noise(1, 1, length))

    def test_any_batch_size(self) -> None:
        """Batches of one, two and three give as many estimates."""
        model = self.evaluation_model(num_targets=2)
        for batch in (1, 2, 3):
            self._check_shape(model, noise(batch, 1, 1717))

    def test_any_number_of_audio_channels(self) -> None:
        """`separate` takes audio with fewer or more channels than the model has."""
        for num_channels in (1, 2):
            model = self.evaluation_model(num_channels=num_channels)
            for given in (1, 2, 3):
                self._check_shape(model, noise(2, given, 900))

    def test_audio_without_batch_or_channel_axis(self) -> None:
        """`separate` takes `(channel, time)` and `(time)` and leaves the same axes out of the estimates."""
        model = self.evaluation_model(num_targets=2, num_channels=2)
        for shape, wanted in (((2, 901), (2, 2, 901)), ((901,), (2, 901))):
            found = tuple(separate(model, noise(*shape)).shape)
            check(
                found == wanted,
                f"estimates of audio {shape} have shape {found}, not {wanted}",
                "return (batch, target, channel, ...) from the network",
            )

    def test_input_is_left_unchanged(self) -> None:
        """The network does not write into what it is given: masks are multiplied with it afterwards."""
        model = self.evaluation_model()
        audio = noise(2, 1, 1500)
        before = audio.clone()
        separate(model, audio)
        given = network_input(model, audio)
        kept = given.clone()
        model.network(given)
        check(
            bool((audio == before).all() and (given == kept).all()),
            "the network changes its input in place",
            "replace in-place operations on it (`x += y`, `x.mul_()`, an inplace=True first layer)",
        )

    def _check_shape(self, model: SeparationModel, audio: Tensor) -> None:
        estimates = separate(model, audio)
        wanted = (audio.shape[0], len(model.targets), *audio.shape[1:])
        check(
            tuple(estimates.shape) == wanted,
            f"estimates of audio {tuple(audio.shape)} have shape {tuple(estimates.shape)}, not {wanted}",
            "pad or crop inside the network, so that as many frames or samples come out as went in",
        )
        check(
            bool(estimates.isfinite().all()),
            f"estimates of audio {tuple(audio.shape)} hold NaN or infinity",
            "guard divisions, logarithms and normalizations over very few frames",
        )
