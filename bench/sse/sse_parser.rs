//! Parses an HTTP/1.1 response with an event stream: its head, its chunks and the events in them.

use memchr::memmem;

/// An incremental parser of a response.
pub(crate) struct SseParser {
    framing: Framing,
    /// The incomplete head or event.
    buffered: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Head,
    /// A body without framing, which ends when the connection closes.
    Unframed,
    ChunkSize(usize),
    Chunk(usize),
    ChunkEnd,
    Done,
}

impl SseParser {
    pub(crate) fn new() -> Self {
        Self { framing: Framing::Head, buffered: Vec::new() }
    }

    /// Whether a head with status 200 has arrived.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.framing, Framing::Head | Framing::Done)
    }

    /// Whether the response has ended or was refused.
    pub(crate) fn is_done(&self) -> bool {
        self.framing == Framing::Done
    }

    /// Passes complete events to `sink`, one or more at a time.
    pub(crate) fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) {
        while !input.is_empty() {
            match self.framing {
                Framing::Head => {
                    self.buffered.extend_from_slice(input);
                    let Some(end) = memmem::find(&self.buffered, b"\r\n\r\n") else { return };
                    let head = std::mem::take(&mut self.buffered);
                    self.framing = framing_of(&head[..end]);
                    let body_len = head.len() - (end + 4);
                    input = &input[input.len() - body_len..];
                }
                Framing::Unframed => return self.push_body(input, sink),
                Framing::ChunkSize(size) => {
                    let byte = input[0];
                    input = &input[1..];
                    self.framing = match (byte, char::from(byte).to_digit(16)) {
                        (_, Some(digit)) => Framing::ChunkSize(size * 16 + digit as usize),
                        (b'\n', _) if size == 0 => Framing::Done,
                        (b'\n', _) => Framing::Chunk(size),
                        _ => Framing::ChunkSize(size),
                    };
                }
                Framing::Chunk(left) => {
                    let length = left.min(input.len());
                    self.push_body(&input[..length], sink);
                    input = &input[length..];
                    self.framing = if length == left {
                        Framing::ChunkEnd
                    } else {
                        Framing::Chunk(left - length)
                    };
                }
                Framing::ChunkEnd => {
                    if input[0] == b'\n' {
                        self.framing = Framing::ChunkSize(0);
                    }
                    input = &input[1..];
                }
                Framing::Done => return,
            }
        }
    }

    fn push_body(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        if self.buffered.is_empty() {
            let end = end_of_events(bytes);
            if end > 0 {
                sink(&bytes[..end]);
            }
            self.buffered.extend_from_slice(&bytes[end..]);
        } else {
            self.buffered.extend_from_slice(bytes);
            let end = end_of_events(&self.buffered);
            if end > 0 {
                sink(&self.buffered[..end]);
                self.buffered.drain(..end);
            }
        }
    }
}

fn framing_of(head: &[u8]) -> Framing {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    // A response with a content length is a refusal, not a stream.
    if head.split(' ').nth(1) != Some("200") || head.contains("content-length:") {
        Framing::Done
    } else if head.contains("transfer-encoding: chunked") {
        Framing::ChunkSize(0)
    } else {
        Framing::Unframed
    }
}

fn end_of_events(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\n\n") {
        return bytes.len();
    }
    memmem::rfind(bytes, b"\n\n").map_or(0, |end| end + 2)
}

/// The value of the last `id:` line.
pub(crate) fn last_id(events: &[u8]) -> Option<&[u8]> {
    let start = match memmem::rfind(events, b"\nid: ") {
        Some(line) => line + 5,
        None if events.starts_with(b"id: ") => 4,
        None => return None,
    };
    let rest = &events[start..];
    Some(&rest[..memchr::memchr(b'\n', rest)?])
}
