"""The base class of every architecture's own settings (`model.params`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

OLDER_ACTIVATIONS = {"leak_relu": "leaky_relu"}
"""Names of mask activations in older documents."""

MaskActivation = Annotated[
    Literal["sigmoid", "hard_sigmoid", "relu", "leaky_relu", "softplus", "tanh", "softmax", "identity"],
    BeforeValidator(lambda name: OLDER_ACTIVATIONS.get(name, name) if isinstance(name, str) else name),
]
"""Names of the functions that turn a network's last layer into a mask (`transforms.mask_activation`)."""


class ModelParams(BaseModel):
    """Base of an architecture's parameters: unknown names are refused, values are validated and frozen.

    Give each field a default, a range and a `description`: they become the table of
    `auralflow show-model`, the messages for bad values and the starting `config.json`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, protected_namespaces=())

    synonyms: ClassVar[Mapping[str, str]] = {}
    """Other names that the command line takes, each with its path or paths: `{"leak": "encoder.leak"}`."""

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings outside of `model` that a new configuration starts with: `{"training": {"lr": 3e-3}}`."""

    def network_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that the network's constructor gets.

        Override it where the constructor names an argument differently.
        """
        return {name: getattr(self, name) for name in type(self).model_fields}

    def size_table(
        self, *, num_fft_bins: int, num_frames: int, num_channels: int, num_targets: int
    ) -> list[tuple[str, str]]:
        """Return rows of layer and size for `auralflow show-model`; override it where sizes follow from settings."""
        return []
