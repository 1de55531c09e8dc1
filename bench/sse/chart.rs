//! A chart of the results as SVG: one panel per table row, one bar per server.

use std::fmt::Write as _;

use crate::{
    report::{Row, number},
    servers::ServerKind,
};

const WIDTH: usize = 760;
const LABEL_WIDTH: usize = 120;
const BAR_HEIGHT: usize = 16;
const TITLE_HEIGHT: usize = 30;

/// Each panel has its own scale, which starts at zero.
pub(crate) fn draw(rows: &[Row], date: &str) -> String {
    let compared: Vec<&Row> = rows.iter().filter(|row| row.values.len() > 1).collect();
    let height_of = |row: &&Row| TITLE_HEIGHT + row.values.len() * (BAR_HEIGHT + 4);
    let height = 50 + compared.iter().map(height_of).sum::<usize>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">Progress over SSE, {date}</text>\n"
    );
    let mut y = 40;
    for row in compared {
        _ = writeln!(
            svg,
            "<text x=\"12\" y=\"{}\" font-weight=\"bold\">{}, {}</text>",
            y + 18,
            row.name,
            row.unit
        );
        y += TITLE_HEIGHT - 4;
        let max = row.values.values().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (kind, value) in &row.values {
            let length = (value / max * (WIDTH - LABEL_WIDTH - 100) as f64).max(1.0);
            _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.0}\" height=\"{BAR_HEIGHT}\" fill=\"{}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                LABEL_WIDTH - 8,
                y + 12,
                kind.name(),
                color(*kind),
                LABEL_WIDTH as f64 + length + 6.0,
                y + 12,
                number(*value)
            );
            y += BAR_HEIGHT + 4;
        }
        y += 4;
    }
    svg + "</svg>\n"
}

fn color(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Gateway => "#2563eb",
        ServerKind::Nchan => "#16a34a",
        ServerKind::NchanRedis => "#86c99b",
        ServerKind::FastApi => "#d97706",
    }
}
