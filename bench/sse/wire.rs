//! What arrives on a connection: the head of an HTTP/1.1 response, chunks, and whole events in them.

use memchr::memmem;

/// Takes a response apart as it arrives.
pub(crate) struct Wire {
    framing: Framing,
    /// The head, or the beginning of an event whose end has not arrived.
    tail: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Head,
    /// Until the connection closes.
    Unframed,
    ChunkSize(usize),
    Chunk(usize),
    ChunkEnd,
    Done,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self { framing: Framing::Head, tail: Vec::new() }
    }

    /// Whether a head that says 200 has arrived.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.framing, Framing::Head | Framing::Done)
    }

    /// Whether nothing more can arrive that matters.
    pub(crate) fn is_done(&self) -> bool {
        self.framing == Framing::Done
    }

    /// Hands whole events to `sink`, one or more at a time.
    pub(crate) fn feed(&mut self, mut input: &[u8], sink: &mut impl FnMut(&[u8])) {
        while !input.is_empty() {
            match self.framing {
                Framing::Head => {
                    self.tail.extend_from_slice(input);
                    let Some(end) = memmem::find(&self.tail, b"\r\n\r\n") else { return };
                    let head = std::mem::take(&mut self.tail);
                    self.framing = framing_of(&head[..end]);
                    let n_body = head.len() - (end + 4);
                    input = &input[input.len() - n_body..];
                }
                Framing::Unframed => return self.body(input, sink),
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
                    let n = left.min(input.len());
                    self.body(&input[..n], sink);
                    input = &input[n..];
                    self.framing =
                        if n == left { Framing::ChunkEnd } else { Framing::Chunk(left - n) };
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

    fn body(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        if self.tail.is_empty() {
            let end = end_of_events(bytes);
            if end > 0 {
                sink(&bytes[..end]);
            }
            self.tail.extend_from_slice(&bytes[end..]);
        } else {
            self.tail.extend_from_slice(bytes);
            let end = end_of_events(&self.tail);
            if end > 0 {
                sink(&self.tail[..end]);
                self.tail.drain(..end);
            }
        }
    }
}

fn framing_of(head: &[u8]) -> Framing {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    // A response of known length is no stream but a refusal.
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
    memmem::rfind(bytes, b"\n\n").map_or(0, |it| it + 2)
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
