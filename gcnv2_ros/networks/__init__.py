# SPDX-License-Identifier: Apache-2.0
"""The networks, by name.

The package's own networks are listed here; another Python package adds its own through the entry point group
``gcnv2_ros.networks`` (entry point name: the network's name; value: a `FeatureNetwork` subclass).
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from ..errors import GCNv2Error
from .common import DESCRIPTOR_CHANNELS, STRIDE, FeatureNetwork
from .gcnv2 import GCNv2, GCNv2Tiny
from .mobile import GCNv2Mobile

ENTRY_POINT_GROUP = "gcnv2_ros.networks"

_BUILT_IN: dict[str, type[FeatureNetwork]] = {network.name: network for network in (GCNv2Tiny, GCNv2, GCNv2Mobile)}

__all__ = [
    "DESCRIPTOR_CHANNELS",
    "ENTRY_POINT_GROUP",
    "STRIDE",
    "FeatureNetwork",
    "GCNv2",
    "GCNv2Mobile",
    "GCNv2Tiny",
    "NetworkError",
    "create_network",
    "network_names",
]


class NetworkError(GCNv2Error):
    """No such network, or one that a third-party package registers cannot be used."""


def network_names() -> tuple[str, ...]:
    """Names of all networks: the package's own, then those that entry points add, in alphabetical order."""
    return (*_BUILT_IN, *sorted(_third_party().keys() - _BUILT_IN.keys()))


def create_network(name: str) -> FeatureNetwork:
    """Make a network with freshly initialised parameters.

    Parameters
    ----------
    name
        One of `network_names`. A third-party entry point cannot replace a network of the package.

    Raises
    ------
    NetworkError
        If there is no network of that name, or its entry point cannot be loaded or is no `FeatureNetwork`.
    """
    network_class = _BUILT_IN.get(name)
    if network_class is None:
        entry = _third_party().get(name)
        if entry is None:
            raise NetworkError(f"there is no network {name!r}; the networks are {', '.join(network_names())}")
        network_class = _load(entry)
    return network_class()


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _load(entry: EntryPoint) -> type[FeatureNetwork]:
    where = f"network {entry.name!r} (entry point {entry.value!r} of {_distribution(entry)})"
    try:
        loaded = entry.load()
    except Exception as error:  # whatever a third-party module does when imported
        raise NetworkError(f"{where} cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, FeatureNetwork)):
        raise NetworkError(f"{where} must be a subclass of gcnv2_ros.networks.FeatureNetwork, got {loaded!r}")
    return loaded


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
