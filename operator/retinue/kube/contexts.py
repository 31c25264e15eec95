"""Which namespace people mean when they give none: that of their kubeconfig's context."""

from kubernetes.aio.config import ConfigException, list_kube_config_contexts


def context_namespace(kubeconfig: str | None, context: str | None) -> str:
    """The namespace of a context, `default` where it names none or there is no kubeconfig (inside a pod)."""
    try:
        contexts, active = list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError):
        return "default"
    chosen = active if context is None else next((c for c in contexts if c["name"] == context), {})
    return str((chosen or {}).get("context", {}).get("namespace") or "default")
