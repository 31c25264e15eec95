"""examples/presets/*.yaml: the presets as manifests."""

from generate.files import Files, as_yaml
from retinue.domain.presets import all_presets

OWNED = {"examples/presets": "*.yaml"}


def files() -> Files:
    """One file per preset."""
    return {f"examples/presets/{p['metadata']['name']}.yaml": as_yaml(p) for p in all_presets()}
