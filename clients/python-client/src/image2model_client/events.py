"""Server-sent events: the text of a stream made events, and what a follower remembers between connections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

# After these, nothing follows about a job.
TERMINAL = frozenset({"task_completed", "task_failed"})


@dataclass(frozen=True)
class Event:
    """What a stream says: `name` such as `file_update`, and its data."""

    name: str
    data: Dict[str, Any]
    id: Optional[str] = None

    @property
    def job_id(self) -> Optional[str]:
        return self.data.get("job_id")

    @property
    def is_last(self) -> bool:
        """Whether nothing follows about its job."""
        return self.name in TERMINAL


class Parser:
    """Reads one connection's lines, as the HTML standard has it."""

    def __init__(self) -> None:
        self.retry: Optional[float] = None
        self._name = ""
        self._data: List[str] = []
        self._id: Optional[str] = None

    def line(self, line: str) -> Optional[Event]:
        """Takes in a line without its end; the event that it completes, if it does."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> Optional[Event]:
        name, data = self._name or "message", "\n".join(self._data)
        self._name, self._data = "", []
        if not data:
            return None
        value = json.loads(data)
        return Event(name, value if isinstance(value, dict) else {"value": value}, self._id)


class Place:
    """Where a follower of some jobs has come to, over all its connections."""

    def __init__(self, jobs: Iterable[str], last_event_id: Optional[str]) -> None:
        self.jobs = list(jobs)
        self.last_event_id = last_event_id
        self.retry = 1.0
        self._open: Set[str] = set(self.jobs)

    @property
    def is_over(self) -> bool:
        return not self._open

    def path(self) -> str:
        """The path of the stream of all these jobs."""
        if len(self.jobs) == 1:
            return f"/api/v1/jobs/{self.jobs[0]}/progress/stream"
        return f"/api/v1/progress/stream?jobs={','.join(self.jobs)}"

    def headers(self) -> Dict[str, str]:
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        return headers

    def take(self, parser: Parser, line: str) -> Iterator[Event]:
        """Takes in a line; the event to pass on, if it completes one."""
        event = parser.line(line)
        if parser.retry is not None:
            self.retry = parser.retry
        if event is None or event.name == "connection_timeout":
            return
        if event.id:
            self.last_event_id = event.id
        if event.is_last and event.job_id:
            self._open.discard(event.job_id)
        yield event
