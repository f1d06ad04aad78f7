//! What each key does.
#![expect(clippy::wildcard_enum_match_arm, reason = "keyboards have more keys than are used")]

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::view::{Move, Panel, Redraw, Typing, View};
use crate::wire::KnockId;
use crate::work::leases::Whom;

/// What is to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Revoke(Whom),
    Quit,
}

/// Somebody pressed it.
pub(super) fn press(view: &mut View, key: KeyEvent) -> Step {
    // A terminal sends Alt and a key as Esc and the key: who typed both fast said no.
    if key.modifiers.intersects(KeyModifiers::CONTROL.union(KeyModifiers::ALT)) {
        if let Typing::Confirm(..) = view.typing {
            view.typing = Typing::Commands;
        }
        return match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Step::Quit,
            KeyCode::Char('l') => {
                view.redraw = Redraw::All;
                Step::Stay
            }
            _ => Step::Stay,
        };
    }
    match std::mem::take(&mut view.typing) {
        Typing::Commands => command(view, key.code),
        Typing::Filter => {
            filter(view, key.code);
            Step::Stay
        }
        // Nothing but a plain yes does it.
        Typing::Confirm(whom, _) if key.code == KeyCode::Char('y') => Step::Revoke(whom),
        Typing::Confirm(..) => Step::Stay,
    }
}

fn command(view: &mut View, key: KeyCode) -> Step {
    match key {
        KeyCode::Char('q') => return Step::Quit,
        // Never the end: over a slow line an arrow key begins with it.
        KeyCode::Esc => view.filter.clear(),
        KeyCode::Tab | KeyCode::BackTab => {
            view.panel = match view.panel {
                Panel::Reasons => Panel::Leases,
                Panel::Leases => Panel::Reasons,
            }
        }
        KeyCode::Up | KeyCode::Char('k') => view.choose(Move::Up(1)),
        KeyCode::Down | KeyCode::Char('j') => view.choose(Move::Down(1)),
        KeyCode::PageUp => view.choose(Move::Up(PAGE)),
        KeyCode::PageDown => view.choose(Move::Down(PAGE)),
        KeyCode::Home => view.choose(Move::Up(usize::MAX)),
        KeyCode::End => view.choose(Move::Down(usize::MAX)),
        KeyCode::Char('s') => view.sort_by_next(),
        KeyCode::Char('r') => view.turn(),
        KeyCode::Char('/') => view.typing = Typing::Filter,
        KeyCode::Char('x') => view.typing = revoke_lease(view).unwrap_or_default(),
        KeyCode::Char('u') => view.typing = revoke_user(view).unwrap_or_default(),
        _ => {}
    }
    Step::Stay
}

fn filter(view: &mut View, key: KeyCode) {
    match key {
        KeyCode::Enter => return,
        KeyCode::Esc => {
            view.filter.clear();
            return;
        }
        KeyCode::Backspace => drop(view.filter.pop()),
        KeyCode::Char(letter) if view.filter.len() < FILTER_MAX => view.filter.push(letter),
        _ => {}
    }
    view.typing = Typing::Filter;
}

fn revoke_lease(view: &View) -> Option<Typing> {
    let lease = view.lease()?;
    let words = format!("end the lease of {} on {} for {}", lease.user, lease.action, lease.opens_for);
    Some(Typing::Confirm(Whom::Lease(KnockId::parse(&lease.lease)?), words))
}

fn revoke_user(view: &View) -> Option<Typing> {
    let user = view.lease()?.user;
    let words = format!("end all leases of {user}");
    Some(Typing::Confirm(Whom::User(user), words))
}

/// Rows.
const PAGE: usize = 10;
/// Bytes; an IPv6 address has 39.
const FILTER_MAX: usize = 64;
