"""What is wrong with something a person wrote, in the three parts that every message must have."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why an object cannot be used."""

    reason: str
    """CamelCase word for conditions, for example `VariableUnknown`."""
    field: str
    """JSON path of the field that is at fault, for example `spec.variables[0].value`."""
    cause: str
    """What is wrong with it. Never holds a prompt text."""
    action: str
    """What to do about it, as an imperative."""

    def __str__(self) -> str:
        """One line for a condition's message."""
        return f"{self.field}: {self.cause}; {self.action}"


def summary(violations: tuple[Violation, ...] | list[Violation]) -> str:
    """All violations as one message, at most three in full."""
    shown = [str(v) for v in violations[:3]]
    if len(violations) > len(shown):
        shown.append(f"and {len(violations) - len(shown)} more")
    return ". ".join(shown)
