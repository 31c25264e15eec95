"""crds/*.yaml, and the same files where the chart can read them."""

from generate.files import Files, as_yaml
from retinue.resources.schema import RESOURCES, crd_of

OWNED = {"crds": "*.yaml", "charts/retinue/files/crds": "*.yaml"}


def files() -> Files:
    """One file per kind, named as `kubectl get crd` names it."""
    texts = {f"retinue.dev_{r.KIND.plural}.yaml": as_yaml(crd_of(r)) for r in RESOURCES}
    return {f"{folder}/{name}": text for folder in OWNED for name, text in texts.items()}
