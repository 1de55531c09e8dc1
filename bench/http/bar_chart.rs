//! Bar charts as SVG.

use std::fmt::Write as _;

const WIDTH: usize = 760;
const LABEL_WIDTH: usize = 100;
const BAR_HEIGHT: usize = 16;
const TITLE_HEIGHT: usize = 26;
const HEADING_HEIGHT: usize = 40;

/// A group of bars with a common scale that starts at zero.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Name, value and color.
    pub(crate) bars: Vec<(String, f64, &'static str)>,
}

/// `format_value` formats the label of a bar.
pub(crate) fn draw(heading: &str, panels: &[Panel], format_value: fn(f64) -> String) -> String {
    let (mut body, mut y) = (String::new(), HEADING_HEIGHT);
    for Panel { title, bars } in panels.iter().filter(|panel| !panel.bars.is_empty()) {
        _ = writeln!(body, "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{title}</text>", y + 18);
        y += TITLE_HEIGHT;
        let max = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value, color) in bars {
            let length = (value / max * (WIDTH - LABEL_WIDTH - 100) as f64).max(1.0);
            _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.0}\" height=\"{BAR_HEIGHT}\" fill=\"{color}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                LABEL_WIDTH - 8,
                y + 12,
                LABEL_WIDTH as f64 + length + 6.0,
                y + 12,
                format_value(*value)
            );
            y += BAR_HEIGHT + 4;
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
