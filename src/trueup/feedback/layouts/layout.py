"""What a layout is: how to recognise its rows, and how to turn one into an example."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from trueup.feedback.fields import Place, needed
from trueup.feedback.records import Example, Origin

RowValue = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that is well formed but of no use; it is counted, and the run goes on."""

    reason: str
    """A clause that is the same for every row with this fault: `a response is empty`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people write feedback down."""

    name: str
    """As reports say it: `HH transcripts`."""
    keys: tuple[str, ...]
    """The keys every row has."""
    meaning: str
    """One sentence: what a row is taken for."""
    convert: Callable[[RowValue, Origin], Example | Unusable]
    """Row -> example; raises InputError for a field that is missing, of the wrong type or out of range."""
    optional: tuple[str, ...] = ()
    """Further keys that are used where they are there."""
    foreign: tuple[str, ...] = ()
    """Keys that make a row one of another layout."""
    named: Callable[[RowValue], Collection[str]] = lambda row: ()
    """Further keys of a row that are used, where whoever wrote the file chose their names."""
    fits: Callable[[RowValue], bool] = lambda row: True
    """What the values of a row must look like, where the keys alone do not tell."""

    def recognises(self, row: RowValue) -> bool:
        """Whether a file whose first row this is has this layout."""
        keys_fit = all(key in row for key in self.keys) and not any(key in row for key in self.foreign)
        return keys_fit and self.fits(row)

    def example(self, row: RowValue, origin: Origin) -> Example | Unusable:
        """Convert a row, after making sure that its keys are those of this layout.

        Raises:
            InputError: the row does not fit.
        """
        place = Place(origin)
        taken = f"the file was taken for {self.name} from its first row; keep one layout in a file"
        for key in self.keys:
            needed(row, key, place, taken)
        for key in self.foreign:
            if key in row:
                raise place.key(key).fault(f"this key makes the row one of another layout, but {taken}")
        return self.convert(row, origin)

    def unused(self, row: RowValue) -> list[str]:
        """The keys of a row that mean nothing here."""
        used = {*self.keys, *self.optional, *self.named(row)}
        return [key for key in row if key not in used]
