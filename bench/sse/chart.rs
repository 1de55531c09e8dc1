//! A chart of the results as SVG: a panel a line of the table, a bar a server.

use std::fmt::Write as _;

use crate::{
    report::{Row, number},
    servers::Kind,
};

const WIDTH: usize = 760;
const LABEL: usize = 120;
const BAR: usize = 16;
const TITLE: usize = 30;

/// Each panel has a scale of its own, from zero.
pub(crate) fn draw(rows: &[Row], date: &str) -> String {
    let compared: Vec<&Row> = rows.iter().filter(|it| it.values.len() > 1).collect();
    let height_of = |it: &&Row| TITLE + it.values.len() * (BAR + 4);
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
            row.what,
            row.unit
        );
        y += TITLE - 4;
        let most = row.values.values().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (kind, value) in &row.values {
            let length = (value / most * (WIDTH - LABEL - 100) as f64).max(1.0);
            _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.0}\" height=\"{BAR}\" fill=\"{}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{}</text>",
                LABEL - 8,
                y + 12,
                kind.name(),
                color(*kind),
                LABEL as f64 + length + 6.0,
                y + 12,
                number(*value)
            );
            y += BAR + 4;
        }
        y += 4;
    }
    svg + "</svg>\n"
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Gateway => "#2563eb",
        Kind::Nchan => "#16a34a",
        Kind::NchanRedis => "#86c99b",
        Kind::FastApi => "#d97706",
    }
}
