"""The networks that a model is the weighted mean of."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np

from auralflow_core.model import SeparationModel
from auralflow_core.model.separation import EvaluationMode
from auralflow_core.separate.base import Audio


class Member(NamedTuple):
    """One of the networks that separate side by side.

    Attributes:
        model: Its model; all members' models share everything but the network.
        shares: Its part in the mean of each target, `(target, 1, 1)`.
    """

    model: SeparationModel
    shares: Audio


def members_of(model: SeparationModel) -> list[Member]:
    """Return the members of a model whose network names them, otherwise the model itself.

    A network that is a weighted mean of others names them, with the weight of each target, in an attribute `members`:
    `(network, weights)` of each, over which the weights of a target sum to one. Each member is then separated by
    segments of its own, with as much audio around them as its `valid_length` asks for; from inside of the network only
    one segment could be had for all. Members that no target needs are left out.
    """
    found = getattr(model.network, "members", None)
    if found is None:
        return [Member(model, np.ones((len(model.targets), 1, 1), np.float32))]
    members = []
    for network, weights in found:
        shares = np.asarray(weights.detach().cpu(), np.float32)[:, None, None]
        if shares.any():
            member = copy.copy(model)
            member.network = network
            member.evaluation_mode = EvaluationMode(network)
            members.append(Member(member, shares))
    return members
