"""What a scenario found."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Figures to be read, and what broke a promise.

    Attributes:
        figures: name and value, in words.
        faults: promises that did not hold, in words; none if all is well.
    """

    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note(self, **figures: object) -> None:
        """Add figures; ``_`` in a name stands for a space."""
        self.figures |= {name.replace("_", " "): str(value) for name, value in figures.items()}

    def check(self, holds: bool, fault: str) -> None:
        """Note ``fault`` unless the promise holds."""
        if not holds:
            self.faults.append(fault)

    def show(self, name: str) -> str:
        """The report as text, a line and one more for each fault."""
        figures = "; ".join(f"{name} {value}" for name, value in self.figures.items())
        state = "BROKEN" if self.faults else "holds"
        return "\n".join([f"{name}: {state}: {figures}", *(f"    {f}" for f in self.faults)])
