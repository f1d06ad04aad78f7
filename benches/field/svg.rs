//! Two kinds of drawing: bars, and lines over a logarithmic axis.

use std::fmt::Write as _;

use crate::Try;
use crate::stats::Figures;

/// A bar for each who of one series: its median, and the range of rounds as a thin line.
pub(crate) fn bars(figures: &Figures, what: &str, better: &str) -> Try<String> {
    let all: Vec<_> = figures.0.iter().filter(|series| series.what == what).collect();
    let most = all.iter().map(|series| series.range().1).fold(1.0, f64::max);
    let unit = all.first().map_or("", |series| series.unit);
    let mut svg = head(&format!("{what}, {unit} ({better})"), 56 + 34 * all.len())?;
    for (at, series) in all.iter().enumerate() {
        let y = 44 + 34 * at;
        let width = |value: f64| value / most * BAR_WIDTH;
        let (least, greatest) = series.range();
        let (from, to) = (LEFT + width(least), LEFT + width(greatest));
        writeln!(svg, r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#, LEFT - 8.0, y + 15, series.who)?;
        let color = if series.who.starts_with("siglatchd") { COLORS[0] } else { "#888" };
        let (median, middle) = (series.median(), y + 11);
        writeln!(
            svg,
            r#"<rect x="{LEFT}" y="{y}" width="{:.1}" height="22" fill="{color}"/>"#,
            width(median)
        )?;
        writeln!(svg, r##"<path d="M{from:.1} {middle}H{to:.1}" stroke="#333" stroke-width="2"/>"##)?;
        writeln!(svg, r#"<text x="{:.1}" y="{}">{median:.0}</text>"#, to + 6.0, y + 15)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A line of the drawing.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Rate a second, and the share from 0 to 1.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Shares over rates.
pub(crate) fn lines(title: &str, lines: &[Line]) -> Try<String> {
    let mut svg = head(title, 330 + 20 * lines.len())?;
    let rates = lines.iter().flat_map(|line| &line.points).map(|(rate, _)| *rate);
    let (first, last) =
        rates.fold((f64::MAX, 1.0_f64), |(first, last), rate| (first.min(rate), last.max(rate)));
    let x = |rate: f64| 60.0 + (rate / first).ln() / (last / first).ln().max(0.1) * 560.0;
    let y = |share: f64| 280.0 - share * 230.0;
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        writeln!(svg, r##"<path d="M60 {0:.1}H620" stroke="#ccc"/>"##, y(share))?;
        writeln!(
            svg,
            r#"<text x="52" y="{:.1}" text-anchor="end">{:.0} %</text>"#,
            y(share) + 4.0,
            share * 100.0
        )?;
    }
    for rate in [1e3, 1e4, 1e5, 4e5].into_iter().filter(|rate| (first..=last * 1.2).contains(rate)) {
        writeln!(svg, r#"<text x="{:.1}" y="300" text-anchor="middle">{}k/s</text>"#, x(rate), rate / 1e3)?;
    }
    for (at, line) in lines.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let mut points = line.points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<_> =
            points.iter().map(|(rate, share)| format!("{:.1},{:.1}", x(*rate), y(*share))).collect();
        writeln!(
            svg,
            r#"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"#,
            path.join(" ")
        )?;
        for (rate, share) in points {
            writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{color}"/>"#, x(rate), y(share))?;
        }
        let key = 325 + 20 * at;
        writeln!(svg, r#"<rect x="60" y="{}" width="14" height="10" fill="{color}"/>"#, key - 9)?;
        writeln!(svg, r#"<text x="80" y="{key}">{}</text>"#, line.name)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn head(title: &str, height: usize) -> Try<String> {
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(svg, r##"<rect width="680" height="{height}" fill="#fff"/>"##)?;
    writeln!(svg, r#"<text x="16" y="24" font-weight="bold">{title}</text>"#)?;
    Ok(svg)
}

/// Told apart by people who do not see all colours.
const COLORS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const LEFT: f64 = 200.0;
const BAR_WIDTH: f64 = 400.0;
