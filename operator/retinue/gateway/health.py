"""What probes are told: alive, ready, and how each part is."""

from collections.abc import Callable


class Health:
    """Collects the state of the parts. Each check answers (fine, words); words hold no names of tenants."""

    def __init__(self) -> None:
        self.draining = False
        """Set on SIGTERM: not ready any more, but everything is still answered."""
        self._alive: list[Callable[[], bool]] = []
        self._checks: dict[str, tuple[Callable[[], tuple[bool, str]], bool]] = {}

    def keep_alive(self, check: Callable[[], bool]) -> None:
        """Add a part whose end makes the process useless: it is then not alive, and gets started anew."""
        self._alive.append(check)

    def add(self, name: str, check: Callable[[], tuple[bool, str]], *, needed: bool) -> None:
        """Add a part. `needed` ones decide readiness; the others are only shown, because requests do without them."""
        self._checks[name] = (check, needed)

    def answer(self, path: str, *, verbose: bool) -> tuple[int, str] | None:
        """Status and text for a probe's path, None if it is not one."""
        if path == "/livez":
            return (200, "ok\n") if all(check() for check in self._alive) else (503, "a background task has ended\n")
        if path not in ("/readyz", "/healthz"):
            return None
        lines, ready = [], not self.draining
        for name, (check, needed) in self._checks.items():
            fine, words = check()
            ready = ready and (fine or not needed)
            lines.append(f"[{'+' if fine else '-'}]{name} {words}".rstrip())
        if self.draining:
            lines.append("[-]shutdown in progress")
        lines.append("ok" if ready else "not ready")
        return 200 if ready else 503, "\n".join(lines if verbose else lines[-1:]) + "\n"
