//! The picture.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Row, Table, TableState};

use super::rates::Rate;
use super::view::{Direction, LeaseBy, Order, Panel, ReasonBy, Typing, View, position};
use crate::config::show_duration;
use crate::control::status::{Decision, Lane, Lease, Phase, Status};
use crate::reason::DropReason;

/// Draws all of it, on whatever room there is.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let Some((_, status)) = &view.last else { return };
    let head = head(view, status);
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let third = Constraint::Fill(1);
    let rows = [Constraint::Length(height), third, third, third, Constraint::Length(1)];
    let [top, middle, held, bottom, foot] = Layout::vertical(rows).areas(frame.area());
    let [left, right] =
        Layout::horizontal([Constraint::Fill(5), Constraint::Fill(4)]).spacing(1).areas(middle);
    lines(frame, top, head);
    reasons(frame, left, view);
    actions(frame, right, status);
    leases(frame, held, view);
    decisions(frame, bottom, view);
    lines(frame, foot, vec![self::foot(view)]);
}

fn lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// The daemon, in a few lines.
fn head(view: &View, status: &Status) -> Vec<Line<'static>> {
    let phase = match status.phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Stopping => "stopping",
    };
    let title = format!(
        " siglatchd {}, up {}, {phase} on {}",
        status.version,
        time(status.up),
        status.listen.join(" ")
    );
    let [received, ran, refused, stamped, plain] = view.knocks();
    let mut head = vec![
        match view.silent() {
            None => Line::styled(title, Style::new().add_modifier(Modifier::REVERSED)),
            Some((old, why)) => Line::styled(
                format!(" NO ANSWER for {}: {why}", time(old.as_secs())),
                alarm().add_modifier(Modifier::REVERSED),
            ),
        },
        Line::raw(format!(
            "knocks   {:.1}/s received, {:.1}/s ran, {:.1}/s refused; {} came, {} ran",
            received.now, ran.now, refused.now, received.total, ran.total
        )),
        lane("stamped", &stamped, status.lanes.stamped),
        lane("plain", &plain, status.lanes.plain),
        work(status),
    ];
    let more = status.warnings.len().saturating_sub(1);
    if let Some(warning) = status.warnings.first() {
        let more = if more > 0 { format!(" (and {more} more: siglatchctl status)") } else { String::new() };
        head.push(Line::styled(format!("WARNING  {}", warning.what), alarm()));
        head.push(Line::raw(format!("         -> {}{more}", warning.hint)));
    }
    head
}

fn lane(name: &str, opened: &Rate, Lane { waiting, short_for, .. }: Lane) -> Line<'static> {
    let load = short_for.map(|seconds| format!(", UNDER LOAD for {}", time(seconds))).unwrap_or_default();
    Line::from(vec![
        Span::raw(format!("{name:<8} {:.1}/s opened, {waiting} waiting", opened.now)),
        Span::styled(load, alarm()),
    ])
}

fn work(status: &Status) -> Line<'static> {
    let listener = match (status.listener.well, status.listener.restarts) {
        (true, 0) => Span::raw(""),
        (true, restarts) => Span::styled(format!("; listener restarts: {restarts}"), alarm()),
        (false, restarts) => Span::styled(format!("; NOBODY LISTENS, restarts: {restarts}"), alarm()),
    };
    let store = match &status.store.failing {
        None => Span::raw(format!("store well, {} waiting", status.store.waiting)),
        Some(why) => Span::styled(format!("store: {why}"), alarm()),
    };
    let hooks = format!("; webhooks: {} due, {} failed", status.webhooks.pending, status.webhooks.failed);
    let running = Span::raw(format!("work     scripts: {} running; ", status.scripts.running));
    Line::from(vec![running, store, Span::raw(hooks), listener])
}

fn reasons(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.reasons();
    let Order { by, direction, chosen } = &view.reasons;
    let column = match by {
        ReasonBy::Reason => 0,
        ReasonBy::Now => 1,
        ReasonBy::Minute => 2,
        ReasonBy::Total => 3,
    };
    let title = if rows.is_empty() { "refused: nothing" } else { "refused, by reason" };
    let names = rows.iter().map(|rate| &rate.what);
    let at = position(names, chosen.as_ref());
    let cells = rows.iter().map(|rate| {
        let numbers = [format!("{:.1}", rate.now), format!("{:.1}", rate.minute), rate.total.to_string()];
        let numbers = numbers.map(right);
        Row::new([Cell::from(rate.what.clone())].into_iter().chain(numbers))
    });
    let widths = [Constraint::Min(16), Constraint::Length(8), Constraint::Length(8), Constraint::Length(10)];
    let table = Table::new(cells, widths).header(columns(
        ["REASON", "NOW/s", "MIN/s", "TOTAL"],
        1,
        column,
        *direction,
    ));
    let state =
        TableState::new().with_selected((view.panel == Panel::Reasons && !rows.is_empty()).then_some(at));
    panel(frame, area, table, title, state);
}

fn actions(frame: &mut Frame<'_>, area: Rect, status: &Status) {
    let cells = status.scripts.ended.iter().map(|(action, ended)| {
        let failed = if ended.failed > 0 { alarm() } else { Style::new() };
        Row::new([
            Cell::from(action.clone()),
            right(ended.succeeded.to_string()),
            right(ended.failed.to_string()).style(failed),
            right(ended.timed_out.to_string()),
        ])
    });
    let widths = [Constraint::Min(12), Constraint::Length(6), Constraint::Length(6), Constraint::Length(5)];
    let head = [("ACTION", 0), ("WELL", 6), ("FAILED", 6), ("LATE", 5)];
    let head = head.map(|(name, width)| format!("{name:>width$}"));
    let table =
        Table::new(cells, widths).header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)));
    panel(frame, area, table, "scripts that ended", TableState::new());
}

fn leases(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.leases();
    let Order { by, direction, chosen } = &view.leases;
    let column = match by {
        LeaseBy::User => 0,
        LeaseBy::Action => 1,
        LeaseBy::From => 2,
        LeaseBy::Left => 3,
    };
    let title = match rows.len() {
        0 => "leases: none".to_owned(),
        count => format!("leases: {count}"),
    };
    let at = position(rows.iter().map(|lease| &lease.lease), chosen.as_ref());
    let cells = rows.iter().map(|lease| {
        let Lease { lease: id, user, action, from, opens_for, left } = lease;
        let from = if from == opens_for { from.to_string() } else { format!("{from} for {opens_for}") };
        Row::new([
            Cell::from(user.clone()),
            Cell::from(action.clone()),
            Cell::from(from),
            Cell::from(time(*left)),
            Cell::from(id.clone()),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(12),
        Constraint::Length(16),
    ];
    let head = columns(["USER", "ACTION", "FROM", "LEFT", "LEASE"], 5, column, *direction);
    let state =
        TableState::new().with_selected((view.panel == Panel::Leases && !rows.is_empty()).then_some(at));
    panel(frame, area, Table::new(cells, widths).header(head), &title, state);
}

fn decisions(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.decisions();
    let title = if rows.is_empty() { "last knocks: none" } else { "last knocks" };
    let cells = rows.into_iter().map(|(ago, Decision { knock, user, action, from, became, .. })| {
        let became = match became.as_str() {
            code if DropReason::ALL.iter().any(|reason| reason.code() == code) => {
                Cell::from(became).style(alarm())
            }
            _ => Cell::from(became),
        };
        Row::new([
            time(ago).into(),
            became,
            user.into(),
            action.into(),
            from.to_string().into(),
            knock.into(),
        ])
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Length(14),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(16),
    ];
    let head = Row::new(["AGO", "BECAME", "USER", "ACTION", "FROM", "KNOCK"])
        .style(Style::new().add_modifier(Modifier::BOLD));
    panel(frame, area, Table::new(cells, widths).header(head), title, TableState::new());
}

fn panel(frame: &mut Frame<'_>, area: Rect, table: Table<'_>, title: &str, mut state: TableState) {
    let block = Block::new().borders(Borders::TOP).title(format!(" {title} "));
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_stateful_widget(table.block(block).row_highlight_style(chosen), area, &mut state);
}

/// The line of names: numbers from `numbers` on, and the way it is sorted.
fn columns<const N: usize>(
    names: [&str; N],
    numbers: usize,
    sorted: usize,
    direction: Direction,
) -> Row<'static> {
    let cells = names.into_iter().enumerate().map(|(at, name)| {
        let mark = match (at == sorted, direction) {
            (false, _) => "",
            (true, Direction::Usual) => "*",
            (true, Direction::Turned) => "^",
        };
        let name = format!("{name}{mark}");
        if at >= numbers { right(name) } else { Cell::from(name) }
    });
    Row::new(cells).style(Style::new().add_modifier(Modifier::BOLD))
}

/// The last line: what is asked, what came of it, or the keys.
fn foot(view: &View) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    match &view.typing {
        Typing::Confirm(_, words) => {
            Line::styled(format!("{words}? y/n"), alarm().add_modifier(Modifier::REVERSED))
        }
        Typing::Filter => {
            Line::styled(format!("filter: {}_  (Enter keeps it, Esc drops it)", view.filter), bold)
        }
        Typing::Commands => match view.note() {
            Some(note) => Line::styled(note.to_owned(), bold),
            None if view.filter.is_empty() => Line::raw(KEYS),
            None => Line::raw(format!("filter: {}  |  {KEYS}", view.filter)),
        },
    }
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn time(seconds: u64) -> String {
    show_duration(Duration::from_secs(seconds))
}

fn alarm() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

const KEYS: &str = "q quit  Tab table  s sort  r turn  / filter  x end lease  u end user's leases";
