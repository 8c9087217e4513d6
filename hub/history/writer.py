"""Samples on their way into series: what fails in a batch is tried again alone, what fails alone is given up. Pure."""

from collections.abc import Sequence

from hub.history.series import History, Sample

__all__ = ["SeriesWriter"]


class SeriesWriter:
    """One pipeline at a time: `commands`, then `confirmed` with their replies, or `done`."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._sent: list[tuple[list[Sample], int, bool]] = []
        self._again: list[Sample] = []

    @property
    def again(self) -> set[str]:
        """Keys of the samples that wait to be written again; the series may be gone, so make them first."""
        return {sample.key for sample in self._again}

    def commands(self, samples: list[Sample]) -> list[bytes]:
        """Return the commands that write `samples` together, and each that failed before by itself."""
        commands: list[bytes] = []
        together = [(samples, False)] if samples else []
        # The older ones first: of one millisecond the last counts.
        for group, alone in (*(([sample], True) for sample in self._again), *together):
            added = self.history.add(group)
            self._sent.append((group, len(added), alone))
            commands += added
        self._again = []
        return commands

    def confirmed(self, replies: Sequence[object]) -> list[tuple[Sample, str]]:
        """Take the replies to `commands`; returns the samples that are given up, each with the reason."""
        given_up: list[tuple[Sample, str]] = []
        at = 0
        for group, count, alone in self._sent:
            failed = self.history.failed(group, replies[at : at + count])
            at += count
            if alone:
                given_up += failed
                continue
            self._again += [sample for sample, _ in failed]
        self._sent = []
        return given_up

    def done(self) -> None:
        """Forget what was sent: all of it was written, or nobody knows. (To add a size twice would be wrong.)"""
        self._sent = []
