"""Texts that end a response where they begin, found while it is written and cut off afterwards."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Token ids -> the text that a response of them has."""

_UNFINISHED = "\ufffd"
"""What a decoder writes for a character of which bytes are missing."""
_MOST = 16
"""Tokens that an unfinished character is waited for."""


class StopTexts:
    """Some texts, at least one.

    Args:
        texts: none of them empty.
    """

    def __init__(self, texts: Sequence[str], decode: Decode) -> None:
        self.texts = tuple(texts)
        self.decode = decode

    def cut(self, text: str) -> str | None:
        """What stands before the stop text that is complete first, of several the longest; None where none is there."""
        found = [(at + len(stop), at) for stop in self.texts if (at := text.find(stop)) >= 0]
        return text[: min(found)[1]] if found else None

    def watch(self) -> Callable[[int], bool]:
        """For one response: is told its tokens one by one, and says whether a stop text is complete with this one."""
        return StopWatch(self).add


class StopWatch:
    """Looks for stop texts in a response that grows by a token at a time.

    Only the last few tokens are decoded again with each new one, as a token's text depends on its neighbours and a
    character may be spread over several tokens. What is found that way is looked up in the whole text before the
    response is ended; what is not found is cut off later, so that the outcome is the same.
    """

    def __init__(self, stops: StopTexts) -> None:
        self._stops = stops
        self._tail = max(map(len, stops.texts)) - 1
        self._ids: list[int] = []
        self._before = ""
        """Text that a stop text may begin in."""
        self._window = 0
        """Where the tokens begin that are decoded again."""
        self._read = 0
        """Tokens whose text is in `_before`."""
        self._known = ""
        """Text of the tokens of the window that were read."""

    def add(self, token: int) -> bool:
        """Whether the response now holds a stop text."""
        self._ids.append(token)
        text = self._stops.decode(self._ids[self._window :])
        silent = len(text) <= len(self._known) or text.endswith(_UNFINISHED)
        if silent and len(self._ids) - self._read < _MOST:
            return False
        seen = self._before + text[len(self._known) :]
        self._before = seen[max(0, len(seen) - self._tail) :]
        self._window, self._read = self._read, len(self._ids)
        self._known = self._stops.decode(self._ids[self._window :])
        if not any(stop in seen for stop in self._stops.texts):
            return False
        return self._stops.cut(self._stops.decode(self._ids)) is not None
