//! Panels of bars as SVG.

use std::fmt::Write as _;

const WIDTH: usize = 760;
const LABEL: usize = 100;
const BAR: usize = 16;
const TITLE: usize = 26;
const HEADING: usize = 40;

/// With a scale of its own, from zero.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Each with a name and a color.
    pub(crate) bars: Vec<(String, f64, &'static str)>,
}

/// `write` says a value in words.
pub(crate) fn draw(heading: &str, panels: &[Panel], write: fn(f64) -> String) -> String {
    let (mut body, mut y) = (String::new(), HEADING);
    for Panel { title, bars } in panels.iter().filter(|it| !it.bars.is_empty()) {
        _ = writeln!(body, "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{title}</text>", y + 18);
        y += TITLE;
        let most = bars.iter().map(|it| it.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value, color) in bars {
            let length = (value / most * (WIDTH - LABEL - 100) as f64).max(1.0);
            _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.0}\" height=\"{BAR}\" fill=\"{color}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                LABEL - 8,
                y + 12,
                LABEL as f64 + length + 6.0,
                y + 12,
                write(*value)
            );
            y += BAR + 4;
        }
        y += 4;
    }
    let height = y + 10;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{heading}</text>\n\
         {body}</svg>\n"
    )
}
