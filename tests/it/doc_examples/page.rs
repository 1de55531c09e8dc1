//! Parses the fenced blocks of a document and the comments that complete them.

use std::mem::take;

/// A fenced block.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The document and the line of the block's start.
    pub(super) location: String,
    pub(super) language: String,
    pub(super) text: String,
    /// The content of a `<!-- before` comment directly above the block: the setup of the example.
    pub(super) before: String,
    /// The content of an `<!-- after` comment directly below the block: assertions on the example's effect.
    pub(super) after: String,
}

impl Block {
    pub(super) fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The whole example.
    pub(super) fn code(&self) -> String {
        format!("{}{}{}", self.before, self.text, self.after)
    }
}

/// The context of a line.
enum Within {
    Text,
    Block,
    /// A comment that starts with this word.
    Before,
    After,
}

/// The fenced blocks of a document, in order.
pub(super) fn blocks(document: &str, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut within = Within::Text;
    let mut before = String::new();
    let mut is_right_below = false;
    for (index, line) in text.lines().enumerate() {
        let location = format!("{document}:{}", index + 1);
        match within {
            Within::Text => {
                assert!(
                    !line.starts_with([' ', '\t']) || !line.trim().starts_with("```"),
                    "{location}"
                );
                within = match line {
                    "<!-- before" => Within::Before,
                    "<!-- after" if is_right_below => Within::After,
                    _ if line.starts_with("```") => {
                        let language = line.trim_matches('`').to_owned();
                        found.push(Block {
                            location,
                            language,
                            before: take(&mut before),
                            ..Block::default()
                        });
                        Within::Block
                    }
                    _ => {
                        assert!(
                            before.is_empty(),
                            "{location}: no block directly below <!-- before"
                        );
                        assert!(
                            !line.starts_with("<!-- after"),
                            "{location}: no block directly above"
                        );
                        Within::Text
                    }
                };
                is_right_below = false;
            }
            Within::Block if line == "```" => (within, is_right_below) = (Within::Text, true),
            Within::Before | Within::After if line == "-->" => within = Within::Text,
            Within::Before => push_line(&mut before, line),
            Within::After => push_line(&mut found.last_mut().unwrap().after, line),
            Within::Block => push_line(&mut found.last_mut().unwrap().text, line),
        }
    }
    assert!(matches!(within, Within::Text), "{document} ends within a block or a comment");
    found
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A command of a `console` block, without its `$ `, and its documented output.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) command: String,
    pub(super) output: String,
}

/// The commands of a `console` block. A backslash at the end of a line continues the command.
pub(super) fn commands(block: &Block) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Command { command: command.to_owned(), output: String::new() });
            continue;
        }
        let last =
            found.last_mut().unwrap_or_else(|| panic!("{} does not start with $", block.location));
        if last.output.is_empty() && last.command.ends_with('\\') {
            last.command.push('\n');
            last.command.push_str(line);
        } else {
            push_line(&mut last.output, line);
        }
    }
    found
}

/// Whether `actual` matches `shown`, in which `…` matches any text.
pub(super) fn is_as_shown(actual: &str, shown: &str) -> bool {
    let trim_lines = |text: &str| -> String {
        let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
        lines.join("\n")
    };
    let (actual, shown) = (trim_lines(actual), trim_lines(shown));
    let mut parts = shown.split('…');
    let Some(mut rest) = actual.strip_prefix(parts.next().unwrap()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[test]
fn an_ellipsis_matches_any_text() {
    assert!(is_as_shown("a\r\nb  \nc\n", "a\nb\nc"));
    assert!(is_as_shown(
        "HTTP/1.1 200 OK\r\nx: 1\r\n\r\n{\"a\":17}\n",
        "HTTP/1.1 200 OK\n…\n{\"a\":…}"
    ));
    assert!(is_as_shown("", ""));
    assert!(!is_as_shown("abc", "ab"));
    assert!(!is_as_shown("abc", "b…"));
    assert!(!is_as_shown("abc", "…b"));
    assert!(!is_as_shown("a", "a…a"));
}
