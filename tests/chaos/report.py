"""What a scenario found."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Figures to be read, and what broke a promise.

    Attributes:
        figures: name and value, in words.
        faults: promises that did not hold, in words; none if all is well.
        missed: figures that are not what they should be, in words. They depend on the machine, so
            `make chaos` judges by them, and the tests do not.
    """

    figures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def note(self, **figures: object) -> None:
        """Add figures; ``_`` in a name stands for a space."""
        self.figures |= {name.replace("_", " "): str(value) for name, value in figures.items()}

    def check(self, holds: bool, fault: str) -> None:
        """Note ``fault`` unless the promise holds."""
        if not holds:
            self.faults.append(fault)

    def aim(self, reached: bool, miss: str) -> None:
        """Note ``miss`` unless the figure is reached."""
        if not reached:
            self.missed.append(miss)

    def show(self, name: str) -> str:
        """The report as text, a line and one more for each fault."""
        figures = "; ".join(f"{name} {value}" for name, value in self.figures.items())
        state = "BROKEN" if self.faults else "MISSED" if self.missed else "holds"
        below = (f"    {text}" for text in (*self.faults, *self.missed))
        return "\n".join([f"{name}: {state}: {figures}", *below])
