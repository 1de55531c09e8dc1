//! What stands in a document: its fenced blocks, with what surrounds them for those who run them.

use std::mem::take;

/// A fenced block.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The document, and the line at which the block begins.
    pub(super) place: String,
    pub(super) language: String,
    pub(super) text: String,
    /// What a `<!-- before` comment right above it has: what the example assumes.
    pub(super) before: String,
    /// What an `<!-- after` comment right below it has: what shows that the example did its work.
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

/// Where a line of a document stands.
enum Within {
    Text,
    Block,
    /// A comment that begins with the word.
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
        let place = format!("{document}:{}", index + 1);
        match within {
            Within::Text => {
                assert!(
                    !line.starts_with([' ', '\t']) || !line.trim().starts_with("```"),
                    "{place}"
                );
                within = match line {
                    "<!-- before" => Within::Before,
                    "<!-- after" if is_right_below => Within::After,
                    _ if line.starts_with("```") => {
                        let language = line.trim_matches('`').to_owned();
                        found.push(Block {
                            place,
                            language,
                            before: take(&mut before),
                            ..Block::default()
                        });
                        Within::Block
                    }
                    _ => {
                        assert!(
                            before.is_empty(),
                            "{place}: no block is right below its <!-- before"
                        );
                        assert!(
                            !line.starts_with("<!-- after"),
                            "{place}: no block is right above"
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

/// A command of a `console` block, after its `$ `, and what is shown of its answer.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) command: String,
    pub(super) output: String,
}

/// The commands of a `console` block; one goes on in the next line after a backslash.
pub(super) fn commands(block: &Block) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Command { command: command.to_owned(), output: String::new() });
            continue;
        }
        let last = found.last_mut().unwrap_or_else(|| panic!("{} begins without a $", block.place));
        if last.output.is_empty() && last.command.ends_with('\\') {
            last.command.push('\n');
            last.command.push_str(line);
        } else {
            push_line(&mut last.output, line);
        }
    }
    found
}

/// Whether `said` is what is `shown`, where `…` stands for anything.
pub(super) fn is_as_shown(said: &str, shown: &str) -> bool {
    let tidy = |text: &str| -> String {
        let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
        lines.join("\n")
    };
    let (said, shown) = (tidy(said), tidy(shown));
    let mut parts = shown.split('…');
    let Some(mut rest) = said.strip_prefix(parts.next().unwrap()) else { return false };
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
fn three_dots_stand_for_anything() {
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
