"""Networks whose constructor takes `pretrained`, too."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from auralflow_core.errors import RegistryError


def network_class(name: str) -> Any:
    """Return an architecture's network; its constructor takes `pretrained` beside its own arguments.

    `OpenUnmix(pretrained="umxhq")` is the network of these public weights, ready to separate; `pretrained` may also be
    the path of a model folder, or `True` where there is one choice of weights.

    Raises:
        RegistryError: The architecture is not installed.
    """
    from auralflow_core.registry import default_registry

    entry = default_registry().models.get(name)
    network = entry.load_network()
    return _with_pretrained(network, entry.name) if isinstance(network, type) else network


class _Pretrainable(type):
    """The class of networks that can be had trained."""

    model_type: str

    def __call__(cls, *args: Any, pretrained: Any = False, **kwargs: Any) -> Any:
        if pretrained is False or pretrained is None:
            return super().__call__(*args, **kwargs)
        if args or kwargs:
            raise TypeError("a pretrained network brings its own sizes; leave the other arguments out")
        return _trained_network(cls.model_type, pretrained)

    def __instancecheck__(cls, instance: Any) -> bool:
        # A trained network is made by its model, of the plugin's own class.
        return isinstance(instance, cls.__bases__)


@cache
def _with_pretrained(network: type, model_type: str) -> Any:
    metaclass = type("_Pretrainable", (_Pretrainable, type(network)), {})
    # Named after the place where users find it, so that instances can be pickled.
    facts = {
        "__module__": "auralflow.models",
        "__doc__": network.__doc__,
        "__signature__": inspect.signature(network),
        "model_type": model_type,
    }
    return metaclass(model_type, (network,), facts)


def _trained_network(model_type: str, pretrained: Any) -> Any:
    from auralflow_core.build import load_model
    from auralflow_core.registry import default_registry

    if pretrained is True:
        names = [entry.name for entry in default_registry().weights if entry.type == model_type]
        if not names:
            raise RegistryError(
                f"{model_type}: no pretrained weights are registered; give the folder of a model that you trained, "
                "pretrained='my_model', or choose among `auralflow list-weights`"
            )
        if len(names) > 1:
            raise RegistryError(f"{model_type}: there are several; choose pretrained={' or '.join(map(repr, names))}")
        [pretrained] = names
    model = load_model(pretrained)
    found = model.config.model.type.partition("@")[0]
    if found != model_type:
        raise RegistryError(f"{pretrained}: is a {found} and no {model_type}; use auralflow.models.{found}")
    return model.network
