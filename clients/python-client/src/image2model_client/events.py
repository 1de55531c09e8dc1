"""Server-sent events: the parser of a stream, and the resume cursor that outlives a connection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set

# The last event of a job.
TERMINAL = frozenset({"task_completed", "task_failed"})


@dataclass(frozen=True)
class Event:
    """One event: `name`, such as `file_update`, and its JSON data."""

    name: str
    data: Dict[str, Any]
    id: Optional[str] = None

    @property
    def job_id(self) -> Optional[str]:
        return self.data.get("job_id")

    @property
    def is_last(self) -> bool:
        """Whether this is the last event of its job."""
        return self.name in TERMINAL


class Parser:
    """Parses the lines of one connection as the HTML standard specifies (section 9.2.6)."""

    def __init__(self) -> None:
        self.retry_secs: Optional[float] = None
        self._event_name = ""
        self._data_lines: List[str] = []
        self._last_id: Optional[str] = None

    def feed(self, line: str) -> Optional[Event]:
        """Parses a line without its line ending. Returns an event if the line completes one."""
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            self._event_name = value
        elif field == "data":
            self._data_lines.append(value)
        elif field == "id" and "\0" not in value:
            self._last_id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_secs = int(value) / 1000
        return None

    def _dispatch(self) -> Optional[Event]:
        name, data = self._event_name or "message", "\n".join(self._data_lines)
        self._event_name, self._data_lines = "", []
        if not data:
            return None
        value = json.loads(data)
        return Event(name, value if isinstance(value, dict) else {"value": value}, self._last_id)


class StreamCursor:
    """The position in the event stream of `jobs`, kept across connections."""

    def __init__(self, jobs: Iterable[str], last_event_id: Optional[str]) -> None:
        self.jobs = list(jobs)
        self.last_event_id = last_event_id
        self.retry_secs = 1.0
        self._open_jobs: Set[str] = set(self.jobs)

    @property
    def is_complete(self) -> bool:
        return not self._open_jobs

    def path(self) -> str:
        """The path and query of the stream."""
        if len(self.jobs) == 1:
            return f"/api/v1/jobs/{self.jobs[0]}/progress/stream"
        return f"/api/v1/progress/stream?jobs={','.join(self.jobs)}"

    def headers(self) -> Dict[str, str]:
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        return headers

    def feed(self, parser: Parser, line: str) -> Iterator[Event]:
        """Parses a line, and yields the event that it completes, if any."""
        event = parser.feed(line)
        if parser.retry_secs is not None:
            self.retry_secs = parser.retry_secs
        if event is None or event.name == "connection_timeout":
            return
        if event.id:
            self.last_event_id = event.id
        if event.is_last and event.job_id:
            self._open_jobs.discard(event.job_id)
        yield event
