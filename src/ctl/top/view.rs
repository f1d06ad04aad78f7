//! What is seen, in which order, and what is chosen: no terminal, no clock.

use std::cmp::Ordering;
use std::time::Duration;

use super::rates::{PLAIN, RAN, RECEIVED, REFUSED, Rate, Rates, STAMPED};
use crate::control::status::{Decision, Lease, Status};
use crate::control::{Reply, Request};
use crate::exit::Failure;
use crate::work::leases::Whom;

/// All of it.
#[derive(Default)]
pub(super) struct View {
    /// Monotonic, as all moments here.
    pub(super) now: Duration,
    /// What the daemon said last, and when.
    pub(super) last: Option<(Duration, Status)>,
    pub(super) rates: Rates,
    /// When it was asked last, and whether that was answered.
    asked: Option<Duration>,
    waiting: bool,
    /// Why the last question was not answered.
    trouble: Option<String>,
    /// What came of something that was done here, and when.
    note: Option<(Duration, String)>,
    pub(super) panel: Panel,
    pub(super) reasons: Order<ReasonBy>,
    pub(super) leases: Order<LeaseBy>,
    /// Rows without it are not shown.
    pub(super) filter: String,
    pub(super) typing: Typing,
    pub(super) redraw: Redraw,
}

/// Which table keys are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Panel {
    Reasons,
    #[default]
    Leases,
}

/// What keys mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Typing {
    /// Commands.
    #[default]
    Commands,
    /// The filter.
    Filter,
    /// Yes or no: whom it is about, and in words.
    Confirm(Whom, String),
}

/// How much is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Redraw {
    #[default]
    Changes,
    All,
}

/// How a table is sorted, and which of its rows is chosen.
#[derive(Default)]
pub(super) struct Order<By> {
    pub(super) by: By,
    pub(super) direction: Direction,
    /// The row's name; it stays chosen wherever it goes.
    pub(super) chosen: Option<String>,
}

/// Each column has an end that matters most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Direction {
    #[default]
    Usual,
    Turned,
}

impl Direction {
    fn of(self, order: Ordering) -> Ordering {
        match self {
            Direction::Usual => order,
            Direction::Turned => order.reverse(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ReasonBy {
    #[default]
    Now,
    Minute,
    Total,
    Reason,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LeaseBy {
    #[default]
    Left,
    User,
    Action,
    From,
}

impl View {
    /// Notes what came of a question.
    pub(super) fn told(&mut self, now: Duration, request: &Request, result: Result<Reply, Failure>) {
        let asked_status = matches!(request, Request::Status);
        self.waiting &= !asked_status;
        match result {
            Ok(Reply::Status(status)) => {
                if self.trouble.take().is_some() {
                    self.redraw = Redraw::All;
                }
                self.rates.note(now, &status);
                self.last = Some((now, *status));
            }
            Ok(Reply::Revoked(0)) => self.note = Some((now, "there is no such lease any more".to_owned())),
            Ok(Reply::Revoked(1)) => self.note = Some((now, "1 lease revoked".to_owned())),
            Ok(Reply::Revoked(count)) => self.note = Some((now, format!("{count} leases revoked"))),
            Ok(Reply::Failed(why)) => self.note = Some((now, why)),
            Ok(
                Reply::Refused(_)
                | Reply::Webhooks(_)
                | Reply::Reloaded { .. }
                | Reply::Set(_)
                | Reply::Explained(_),
            ) => self.note = Some((now, "siglatchd answers something else".to_owned())),
            Err(failure) => {
                // Making the connection again may have said something on the terminal.
                self.redraw = Redraw::All;
                if asked_status {
                    self.trouble = Some(failure.what);
                } else {
                    self.note = Some((now, failure.what));
                }
            }
        }
    }

    /// Whether to ask again, which is then noted.
    pub(super) fn asks(&mut self) -> bool {
        let due = self.asked.is_none_or(|asked| self.now.saturating_sub(asked) >= PACE) && !self.waiting;
        if due {
            (self.asked, self.waiting) = (Some(self.now), true);
        }
        due
    }

    /// Why what is shown is old, and for how long it is.
    pub(super) fn silent(&self) -> Option<(Duration, &str)> {
        let (at, _) = self.last.as_ref()?;
        let old = self.now.saturating_sub(*at);
        match &self.trouble {
            Some(why) => Some((old, why)),
            None if old > PATIENCE => Some((old, "it does not answer")),
            None => None,
        }
    }

    /// What there is to say about what was done here lately.
    pub(super) fn note(&self) -> Option<&str> {
        let (at, text) = self.note.as_ref()?;
        (self.now.saturating_sub(*at) < NOTED).then_some(text.as_str())
    }

    /// The rates of [`KNOCKS`].
    pub(super) fn knocks(&self) -> [Rate; KNOCKS.len()] {
        let all = self.rates.all();
        KNOCKS.map(|name| all.iter().find(|rate| rate.what == name).cloned().unwrap_or_default())
    }

    /// What became of the last knocks, the latest first, and how many seconds ago.
    pub(super) fn decisions(&self) -> Vec<(u64, Decision)> {
        let Some((at, status)) = &self.last else { return Vec::new() };
        let gone = self.now.saturating_sub(*at).as_secs();
        let fits = |decision: &&Decision| {
            let Decision { knock, user, action, from, became, .. } = decision;
            self.fits(&[knock, user, action, became, &from.to_string()])
        };
        let ago = |decision: &Decision| status.at.saturating_sub(decision.at).saturating_add(gone);
        status.latest.iter().filter(fits).map(|decision| (ago(decision), decision.clone())).collect()
    }

    /// Reasons for which something was refused or lost, sorted.
    pub(super) fn reasons(&self) -> Vec<Rate> {
        let mut rows = self.rates.all();
        rows.retain(|rate| rate.total > 0 && !KNOCKS.contains(&rate.what.as_str()));
        rows.retain(|rate| self.fits(&[&rate.what]));
        let Order { by, direction, .. } = self.reasons;
        rows.sort_by(|a, b| {
            let order = match by {
                ReasonBy::Now => b.now.total_cmp(&a.now).then(b.total.cmp(&a.total)),
                ReasonBy::Minute => b.minute.total_cmp(&a.minute).then(b.total.cmp(&a.total)),
                ReasonBy::Total => b.total.cmp(&a.total),
                ReasonBy::Reason => Ordering::Equal,
            };
            direction.of(order.then_with(|| a.what.cmp(&b.what)))
        });
        rows
    }

    /// Leases, sorted, with what is left of them now.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let Some((at, status)) = &self.last else { return Vec::new() };
        let gone = self.now.saturating_sub(*at).as_secs();
        let mut rows = status.doors.leases.clone();
        rows.iter_mut().for_each(|lease| lease.left = lease.left.saturating_sub(gone));
        rows.retain(|lease| {
            let (from, opens_for) = (lease.from.to_string(), lease.opens_for.to_string());
            self.fits(&[&lease.user, &lease.action, &lease.lease, &from, &opens_for])
        });
        let Order { by, direction, .. } = self.leases;
        rows.sort_by(|a, b| {
            let order = match by {
                LeaseBy::Left => a.left.cmp(&b.left),
                LeaseBy::User => a.user.cmp(&b.user),
                LeaseBy::Action => a.action.cmp(&b.action),
                LeaseBy::From => a.from.cmp(&b.from),
            };
            direction.of(order.then_with(|| a.lease.cmp(&b.lease)))
        });
        rows
    }

    /// The lease that keys are about: the chosen one, or the first.
    pub(super) fn lease(&self) -> Option<Lease> {
        let rows = self.leases();
        let chosen = rows.iter().find(|lease| Some(&lease.lease) == self.leases.chosen.as_ref());
        chosen.or(rows.first()).cloned()
    }

    /// Chooses another row of the panel.
    pub(super) fn choose(&mut self, way: Move) {
        let (names, order): (Vec<String>, _) = match self.panel {
            Panel::Reasons => {
                (self.reasons().into_iter().map(|rate| rate.what).collect(), &mut self.reasons.chosen)
            }
            Panel::Leases => {
                (self.leases().into_iter().map(|lease| lease.lease).collect(), &mut self.leases.chosen)
            }
        };
        let last = names.len().saturating_sub(1);
        let at = position(names.iter(), order.as_ref());
        let to = match way {
            Move::Up(by) => at.saturating_sub(by),
            Move::Down(by) => at.saturating_add(by).min(last),
        };
        *order = names.into_iter().nth(to);
    }

    /// Sorts the panel by its next column.
    pub(super) fn sort_by_next(&mut self) {
        match self.panel {
            Panel::Reasons => {
                self.reasons.by = match self.reasons.by {
                    ReasonBy::Now => ReasonBy::Minute,
                    ReasonBy::Minute => ReasonBy::Total,
                    ReasonBy::Total => ReasonBy::Reason,
                    ReasonBy::Reason => ReasonBy::Now,
                }
            }
            Panel::Leases => {
                self.leases.by = match self.leases.by {
                    LeaseBy::Left => LeaseBy::User,
                    LeaseBy::User => LeaseBy::Action,
                    LeaseBy::Action => LeaseBy::From,
                    LeaseBy::From => LeaseBy::Left,
                }
            }
        }
    }

    /// Sorts the panel the other way round.
    pub(super) fn turn(&mut self) {
        let direction = match self.panel {
            Panel::Reasons => &mut self.reasons.direction,
            Panel::Leases => &mut self.leases.direction,
        };
        *direction = match direction {
            Direction::Usual => Direction::Turned,
            Direction::Turned => Direction::Usual,
        };
    }

    fn fits(&self, cells: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        cells.iter().any(|cell| cell.to_lowercase().contains(&wanted))
    }
}

/// Where to, by how many rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Up(usize),
    Down(usize),
}

/// Where the chosen row is; the first one where it is not.
pub(super) fn position<'a>(names: impl Iterator<Item = &'a String>, chosen: Option<&String>) -> usize {
    let mut names = names;
    names.position(|name| Some(name) == chosen).unwrap_or(0)
}

/// Counters that are no reasons.
const KNOCKS: [&str; 5] = [RECEIVED, RAN, REFUSED, STAMPED, PLAIN];
/// Between two questions.
const PACE: Duration = Duration::from_secs(1);
/// Longer without an answer is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a note stands.
const NOTED: Duration = Duration::from_secs(5);
