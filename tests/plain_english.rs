//! Rules about words: closure parameters have names, and prose does without words that readers stumble over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod source_files;

use crate::source_files::{SourceFile, files_below};

/// Words and phrases that comments and documents do not contain, in lower case.
const WORDS: &[&str] = &[
    "anew",
    "anybody",
    "bell",
    "bells",
    "council",
    "is none",
    "keeper",
    "keepers",
    "nobody",
    "patience",
    "somebody",
    "whoever",
    "whom",
    "without end",
];
/// First words of a comment line that has a clause for its subject. In lower case.
const OPENINGS: &[&str] = &["what", "who"];

/// A line of prose.
struct Line<'a> {
    number: usize,
    text: &'a str,
}

/// The comments of a program, without their marks.
fn comments(file: &SourceFile) -> Vec<Line<'_>> {
    let (marks, trailing): (&[&str], &str) = match file.path.rsplit_once('.').unwrap().1 {
        "rs" => (&["//"], " // "),
        "lua" => (&["--"], " -- "),
        "html" => (&["<!--"], " <!-- "),
        "py" => (&["#"], "  # "),
        _ => (&["//", "/*", "* "], " // "),
    };
    let mut comments = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let text = line.trim_start();
        let comment = if marks.iter().any(|mark| text.starts_with(mark)) {
            Some(text.trim_start_matches(['/', '!', '-', '<', '#', '*']).trim_start())
        } else {
            line.split_once(trailing).map(|(_, comment)| comment)
        };
        comments.extend(comment.map(|text| Line { number: index + 1, text }));
    }
    comments
}

/// The lines of a Markdown document outside of code blocks.
fn prose(file: &SourceFile) -> Vec<Line<'_>> {
    let mut prose = Vec::new();
    let mut is_code = false;
    for (index, text) in file.text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push(Line { number: index + 1, text });
        }
    }
    prose
}

/// The words of a line in lower case, one space between two, without code in backticks and without punctuation.
fn words(text: &str) -> String {
    let outside_code: Vec<&str> = text.split('`').step_by(2).collect();
    let words: Vec<String> = outside_code
        .join(" _ ")
        .split(|end: char| !end.is_alphanumeric() && !"'-_".contains(end))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    format!(" {} ", words.join(" "))
}

fn unwanted_words(text: &str) -> Vec<&'static str> {
    let words = words(text);
    WORDS.iter().filter(|word| words.contains(&format!(" {word} "))).copied().collect()
}

fn unwanted_opening(text: &str) -> Option<&'static str> {
    let words = words(text);
    let first = words.split(' ').nth(1)?;
    OPENINGS.iter().find(|opening| **opening == first).copied()
}

/// The parameter lists of the closures in a line that contain `it`.
fn nameless_parameters(line: &str) -> Vec<&str> {
    let mut nameless = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('|') {
        rest = after;
        // Any other bar is an operator or separates patterns.
        let is_start = !before.ends_with(|end: char| end.is_alphanumeric());
        let is_pattern = |part: char| part.is_alphanumeric() || " _&:,()[]<>{}.'".contains(part);
        if let Some((parameters, body)) = after.split_once('|')
            && is_start
            && parameters.chars().all(is_pattern)
        {
            rest = body;
            if parameters.split(|end: char| !end.is_alphanumeric()).any(|name| name == "it") {
                nameless.push(parameters);
            }
        }
    }
    nameless
}

#[test]
fn closure_parameters_have_names() {
    let mut wrong = Vec::new();
    for folder in ["src", "crates", "tests", "bench"] {
        for file in files_below(folder, &["rs"]) {
            for (index, line) in file.text.lines().enumerate() {
                for parameters in nameless_parameters(line) {
                    wrong.push(format!("{}:{}: |{parameters}|", file.path, index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} closures without a name:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn comments_and_documents_are_in_plain_english() {
    let mut wrong = Vec::new();
    let mut check = |file: &SourceFile, lines: Vec<Line>, is_comment: bool| {
        for line in lines {
            let opening = unwanted_opening(line.text).filter(|_| is_comment);
            for word in opening.into_iter().chain(unwanted_words(line.text)) {
                wrong.push(format!("{}:{}: {word:?}: {}", file.path, line.number, line.text));
            }
        }
    };
    for folder in ["src", "crates", "tests", "bench", "migrations-lua", "web"] {
        for file in files_below(folder, &["rs", "lua", "js", "ts", "css", "html", "py"]) {
            check(&file, comments(&file), true);
        }
    }
    for file in files_below("", &["md"]) {
        check(&file, prose(&file), false);
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nameless_parameters_are_found_in_all_forms() {
    // Written apart, so that this file has none itself.
    for parameters in ["it", "&it", "mut it", "it: char", "(it, _)", "_, it"] {
        let line =
            format!("jobs.filter(|job| job.files.any(|{parameters}| !it.is_open() || is_new))");
        assert_eq!(nameless_parameters(&line), [parameters]);
    }
    for line in
        ["|item| item.bit", "|(bit, _)| bit", "a || it || b", "1 | 2 => it", "|| it", "bit|it"]
    {
        assert!(nameless_parameters(line).is_empty(), "{line}");
    }
}

#[test]
fn unwanted_words_are_found_as_whole_words_outside_of_code() {
    assert_eq!(unwanted_words("Nobody waits (without end)."), ["nobody", "without end"]);
    assert_eq!(unwanted_words("a key that is none; the bell's `whom`"), ["is none"]);
    assert!(unwanted_words("`nobody` waits; the labelled end is nonempty").is_empty());
    assert_eq!(unwanted_opening("What is due."), Some("what"));
    assert_eq!(unwanted_opening("Whatever `what` is."), None);
}

#[test]
fn comments_and_prose_are_found() {
    let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let texts = |lines: Vec<Line>| -> Vec<String> {
        lines.iter().map(|line| format!("{} {}", line.number, line.text)).collect()
    };
    let rust = file("a.rs", "//! One\n    /// Two\ncode(); // Three\nlet url = \"http://four\";");
    assert_eq!(texts(comments(&rust)), ["1 One", "2 Two", "3 Three"]);
    assert_eq!(texts(comments(&file("a.lua", "-- One\nlocal x = a - b"))), ["1 One"]);
    assert_eq!(texts(comments(&file("a.css", "/* One\n * Two */\na { }"))), ["1 One", "2 Two */"]);
    assert_eq!(texts(prose(&file("a.md", "One\n```sh\nTwo\n```\nThree"))), ["1 One", "5 Three"]);
}
