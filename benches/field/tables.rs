//! The figures as text for a terminal, and as CSV.

use std::fmt::Write as _;

use crate::Try;
use crate::floods::Outcome;
use crate::stats::Figures;

/// All that was measured in rounds: median, range, and how many times siglatchd's it is.
pub(crate) fn figures_text(figures: &Figures, reference: &str) -> Try<String> {
    let mut text = String::new();
    let mut what = "";
    for series in &figures.0 {
        if series.what != what {
            what = series.what;
            let title = format!("{what}, {}", series.unit);
            writeln!(text, "\n{title:42} {:>10} {:>21} {:>14}", "median", "range of rounds", "to siglatchd")?;
        }
        let (least, most) = series.range();
        let ratio = figures.of(what, reference).map(|ours| format!("{:.2}", series.median() / ours));
        let ratio = ratio.unwrap_or_default();
        writeln!(text, "  {:40} {:10.1} {least:10.1}-{most:<10.1} {ratio:>14}", series.who, series.median())?;
    }
    Ok(text)
}

/// The same, each round.
pub(crate) fn figures_csv(figures: &Figures) -> Try<String> {
    let mut text = "what,who,unit,round,value\n".to_owned();
    for series in &figures.0 {
        for (round, value) in series.rounds.iter().enumerate() {
            writeln!(text, "{},\"{}\",{},{},{value:.3}", series.what, series.who, series.unit, round + 1)?;
        }
    }
    Ok(text)
}

/// A line for each flood.
pub(crate) fn floods_text(floods: &[Outcome]) -> Try<String> {
    let mut text = String::new();
    writeln!(
        text,
        "\n{:18} {:16} {:>8} {:>9} {:13} {:13} {:>9} {:>8} {:>8} {:>8} {:>6}",
        "floods", "of", "asked/s", "sent/s", "from", "knocks from", "ran", "p50 ms", "p99 ms", "MB", "lines"
    )?;
    for flood in floods {
        writeln!(
            text,
            "{:18} {:16} {:8} {:9.0} {:13} {:13} {:>9} {:8.2} {:8.2} {:8.1} {:6}",
            flood.who,
            flood.case.kind.name(),
            flood.case.rate,
            flood.garbage.per_second(),
            flood.case.sources.name(),
            flood.case.knocker.name(),
            format!("{}/{}", flood.ran, flood.knocks),
            crate::stats::median(&flood.latencies),
            flood.p99(),
            flood.pss.1 as f64 / 1024.0,
            flood.lines
        )?;
    }
    Ok(text)
}

/// The same.
pub(crate) fn floods_csv(floods: &[Outcome]) -> Try<String> {
    let mut text =
        "who,kind,asked_per_s,sent_per_s,sources,knocks_from,knocks,ran,p50_ms,p99_ms,pss_before_kib,\
                    pss_most_kib,lines,opened\n"
            .to_owned();
    for flood in floods {
        writeln!(
            text,
            "\"{}\",{},{},{:.0},{},{},{},{},{:.3},{:.3},{},{},{},{}",
            flood.who,
            flood.case.kind.name(),
            flood.case.rate,
            flood.garbage.per_second(),
            flood.case.sources.name(),
            flood.case.knocker.name(),
            flood.knocks,
            flood.ran,
            crate::stats::median(&flood.latencies),
            flood.p99(),
            flood.pss.0,
            flood.pss.1,
            flood.lines,
            flood.opened.map(|opened| opened.to_string()).unwrap_or_default()
        )?;
    }
    Ok(text)
}
