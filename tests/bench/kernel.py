"""Owns what the kernel tells of a compositor and its client while frames are shown: every atomic commit, every flip, and who was
woken by whom, with times on CLOCK_MONOTONIC, as those that the client has. Nothing is attached to either.
"""

import bisect
import pathlib
import re
import time

from compositor import Failed

TRACING = pathlib.Path("/sys/kernel/tracing")
INSTANCE = TRACING / "instances" / "fencepost"
# The ioctl as the driver sees it: the flags are the first word of what the caller has passed.
PROBE = "p:fencepost/atomic drm_mode_atomic_ioctl flags=+0($arg2):u32"
EVENTS = ("fencepost/atomic", "drm/drm_vblank_event_delivered", "sched/sched_waking")
TEST_ONLY = 0x0100
BUFFER_KIB = 16384
LINE = re.compile(r"^\s*(?P<comm>.+)-(?P<pid>\d+)\s+\[\d+\]\s+(?P<flags>\S+)\s+(?P<s>\d+)\.(?P<us>\d{6}): (?P<event>\w+): (?P<rest>.*)$")
# A frame's time of presentation is the flip's, to the microsecond that the trace rounds to.
ROUNDED_NS = 2000


class Traced:
    """What happens in the time of a `with`, of these threads of a compositor and of this client."""

    def __init__(self, threads, client):
        self._threads = threads
        self._client = client
        self._start = 0
        # Times in ns: of commits, of flips with that of their commit, of the compositor's wake-ups; and those of the client, with
        # whether a process of the compositor's has woken it.
        self.commits, self.flips, self.wakes, self.told = [], [], [], []

    def __enter__(self):
        try:
            INSTANCE.mkdir(exist_ok=True)
            write(INSTANCE / "trace_clock", "mono")
            write(INSTANCE / "buffer_size_kb", str(BUFFER_KIB))
            write(INSTANCE / "trace", "")
            if not (TRACING / "events/fencepost/atomic").exists():
                write(TRACING / "kprobe_events", PROBE)
            pids = " || ".join(f"pid == {pid}" for pid in sorted(self._threads | {self._client}))
            write(INSTANCE / "events/sched/sched_waking/filter", pids)
            for event in EVENTS:
                write(INSTANCE / "events" / event / "enable", "1")
        except OSError as error:
            raise Failed(f"the kernel cannot trace this: {error}") from error
        self._start = time.monotonic_ns()
        return self

    def shown(self, commits):
        """Of what a client tells of its commits, those that were made and shown in this time, in the order in which they were shown."""
        shown = (commit for commit in commits if commit["presented"] is not None and commit["committed"] > self._start)
        return sorted(shown, key=lambda commit: commit["presented"])

    def __exit__(self, *_):
        for event in EVENTS:
            write(INSTANCE / "events" / event / "enable", "0")
        text = (INSTANCE / "trace").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            found = LINE.match(line)
            if found:
                self._take(found)
            elif "EVENTS DROPPED" in line or line.startswith("CPU:"):
                raise Failed("the kernel's trace has a gap")
        write(INSTANCE / "trace", "")

    def _take(self, found):
        at = (int(found["s"]) * 1_000_000 + int(found["us"])) * 1000
        pid, event, rest = int(found["pid"]), found["event"], found["rest"]
        if event == "atomic" and pid in self._threads:
            if not int(re.search(r"flags=(\d+)", rest)[1]) & TEST_ONLY:
                self.commits.append(at)
        elif event == "drm_vblank_event_delivered" and self.commits:
            self.flips.append((at, self.commits[-1]))
        elif event == "sched_waking":
            woken = int(re.search(r"\bpid=(\d+)", rest)[1])
            if woken == self._client:
                # The third of the flags says whether an interrupt has come in between.
                self.told.append((at, pid in self._threads and found["flags"][2] == "."))
            else:
                self.wakes.append(at)

    def flip(self, presented):
        """When the flip was told of that a frame was presented with, and when it was committed; None where it is not known."""
        index = bisect.bisect_left(self.flips, (presented - ROUNDED_NS, 0))
        return self.flips[index] if index < len(self.flips) else None

    def woken(self, before):
        """The last time that the client was woken before this, and whether the compositor did it."""
        index = bisect.bisect_right(self.told, (before, True))
        return self.told[index - 1] if index else None

    def wake_ups(self, after, until):
        """How often the compositor was woken in between."""
        return bisect.bisect_right(self.wakes, until) - bisect.bisect_right(self.wakes, after)


def write(path, text):
    """As the kernel wants it: in one go."""
    path.write_text(text, encoding="utf-8")


def rank(values, percent):
    """The nearest rank, in milliseconds of values in ns; None without any."""
    values = sorted(values)
    return values[max(-(-len(values) * percent // 100), 1) - 1] / 1e6 if values else None


def fence_to_commit(commits, trace):
    """From a late fence to the atomic commit of the frame, to its flip: of what a client tells of its commits."""
    reaction, ahead, shown = [], [], []
    unready = handed_over = 0
    for commit in trace.shown(commits):
        ready, presented = commit["ready"], commit["presented"]
        if ready is None or presented < ready:
            unready += 1
            continue
        flip = trace.flip(presented)
        if flip is None:
            continue
        delivered, committed = flip
        shown.append(presented - ready)
        if committed < ready:
            handed_over += 1
            continue
        reaction.append(committed - ready)
        ahead.append(delivered - committed)
    if not shown and not unready:
        raise Failed("no flip was seen of any frame")
    frames = len(shown) + unready
    if unready:
        # It does not wait. That a fence signals between a commit and its flip is luck, and says nothing of how soon it is seen.
        reaction, ahead, shown = [], [], []
    return {
        "frames": frames,
        "unready": unready,
        "handed_over": handed_over,
        "p50_ms": rank(reaction, 50),
        "p99_ms": rank(reaction, 99),
        "max_ms": rank(reaction, 100),
        "ahead_p50_ms": rank(ahead, 50),
        "shown_p50_ms": rank(shown, 50),
        "shown_p99_ms": rank(shown, 99),
    }


def release(commits, trace):
    """From the flip that shows a later frame to the release of the one before, as its client is told."""
    shown = trace.shown(commits)
    late, seen, wake_ups = [], [], []
    by_kernel = 0
    for commit, successor in zip(shown, shown[1:]):
        flip, told = trace.flip(successor["presented"]), trace.woken(commit["released"])
        if flip is None or told is None:
            continue
        delivered, (at, by_compositor) = flip[0], told
        seen.append(commit["released"] - delivered)
        if commit["zero_copy"] and at < delivered:
            # It was awake when the flip came, and nobody has woken it for this.
            late.append(commit["released"] - delivered)
            continue
        late.append(at - delivered)
        by_kernel += not by_compositor
        # What the kernel gives back waits for no wake-up, and what was given back before the flip for none after it.
        wake_ups.append(trace.wake_ups(delivered, at) if by_compositor and at > delivered else 0)
    if not late:
        raise Failed("no release was seen beside a flip")
    return {
        "releases": len(late),
        "zero_copy": sum(commit["zero_copy"] for commit in shown) / len(shown),
        "p50_ms": rank(late, 50),
        "p99_ms": rank(late, 99),
        "max_ms": rank(late, 100),
        "seen_p50_ms": rank(seen, 50),
        "wake_ups": sum(wake_ups) / len(wake_ups) if wake_ups else None,
        "by_kernel": by_kernel / len(wake_ups) if wake_ups else None,
    }
