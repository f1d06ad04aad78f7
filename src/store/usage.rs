//! What a knock uses up, and whether there is any left: decided and counted in the transaction that claims it.
//!
//! In: a [`Use`], and what an engine has counted (`Ledger`). Out: it was counted, or [`Over`]. Both engines decide here.
//!
//! A door is knocked over IPv4 and IPv6, with a knock each: the second within `TWIN` seconds is the same use, under the
//! same code.
//!
//! Uses are counted by quarter hours, which every time zone's hours and days consist of, so a quota that is changed counts
//! what was used before. A clock that steps back gives nothing back: what is ahead of it counts as used in its period.

use crate::wire::{ActionId, UserId};

/// What is to be counted with a claim, and up to where. The claim's nonce says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Now, Unix seconds.
    pub at: u32,
    /// What is used.
    pub action: ActionId,
    /// Of this action, by this user.
    pub of_action: Terms,
    /// Of all actions together, by this user.
    pub of_user: Terms,
    /// Most uses of all actions together, by this user, ever.
    pub most: Option<u32>,
    /// The second factor, where the action asks for one.
    pub code: Option<Code>,
    /// Over what it came, where the other family may follow.
    pub family: Option<Family>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4
    V4 = 4,
    /// IPv6
    V6 = 6,
}

/// A use of a door that waits for its twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Over what it came, as a number.
    pub(super) family: u8,
    /// When, Unix seconds.
    pub(super) at: u32,
    /// Of its code.
    pub(super) step: Option<u32>,
}

/// What became of a [`Use`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// It was counted.
    Counted,
    /// It is part of one that was.
    Shared,
    /// It was not.
    Over(Over),
}

/// What is permitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Seconds between two uses.
    pub cooldown: Option<u32>,
    /// Most uses in a period.
    pub quota: Option<Window>,
}

/// A quota's period, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many.
    pub most: u32,
    /// From when on.
    pub since: u32,
    /// When the next one begins.
    pub until: u32,
}

/// A TOTP code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Of the user's key in this step (Unix time / 30).
    OfStep(u32),
    /// Of none that is accepted.
    Wrong,
}

/// Refused, and nothing was counted but, perhaps, a wrong code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Why.
    pub limit: Limit,
    /// When it is possible again, Unix seconds; `None` where that is not a matter of time.
    pub next: Option<u32>,
}

/// What was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `FAILURES` wrong codes within `LOCK` seconds.
    Locked,
    /// A wrong code.
    WrongCode,
    /// A code of this step, or of a later one, was used before.
    UsedCode,
    /// [`Use::most`]
    Spent,
    /// [`Terms::quota`]
    Quota,
    /// [`Terms::cooldown`]
    Cooldown,
}

/// A use that was counted, to be given back if nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Whose.
    pub user: UserId,
    /// Of what.
    pub action: ActionId,
    /// When, Unix seconds.
    pub at: u32,
}

/// What one user used of one action, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whose.
    pub user: UserId,
    /// Of what.
    pub action: ActionId,
    /// Ever.
    pub uses: u64,
    /// In the last 24 hours, to a quarter of an hour.
    pub day: u64,
    /// In the last seven days, likewise.
    pub week: u64,
    /// The first one, Unix seconds.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

impl Use {
    /// Whether anything depends on its being counted.
    pub fn is_limited(&self) -> bool {
        let free = Terms::default();
        self.of_action != free || self.of_user != free || self.most.is_some() || self.code.is_some()
    }
}

/// What an engine has counted of one user.
pub(super) trait Ledger {
    /// The engine's.
    type Error;

    /// Uses of the action, or of all, in the [`quarter`] given and those after it.
    fn uses(&mut self, action: Option<ActionId>, quarter: u32) -> Result<u64, Self::Error>;
    /// Uses of all, ever.
    fn ever(&mut self) -> Result<u64, Self::Error>;
    /// The last use of the action, or of any; Unix seconds.
    fn last(&mut self, action: Option<ActionId>) -> Result<Option<u32>, Self::Error>;
    /// Wrong codes after `after` (Unix seconds): when, the earliest first.
    fn failures(&mut self, after: u32) -> Result<Vec<u32>, Self::Error>;
    /// The step of the last code that was used.
    fn step(&mut self) -> Result<Option<u32>, Self::Error>;
    /// The last use of the action, if it waits for its twin.
    fn waiting(&mut self, action: ActionId) -> Result<Option<Waiting>, Self::Error>;

    /// One use more.
    fn add_use(&mut self, action: ActionId, at: u32, waiting: Option<Waiting>) -> Result<(), Self::Error>;
    /// The last use of the action has its twin: it waits no more, and is not given back.
    fn join(&mut self, action: ActionId) -> Result<(), Self::Error>;
    /// One wrong code more; those up to `until` may be forgotten.
    fn add_failure(&mut self, at: u32, until: u32) -> Result<(), Self::Error>;
    /// No code of this step or one before it is used again.
    fn set_step(&mut self, step: u32) -> Result<(), Self::Error>;
}

/// Counts `using`, unless it is over a limit.
pub(super) fn spend<L: Ledger>(ledger: &mut L, using: &Use) -> Result<Spent, L::Error> {
    let step = match using.code {
        Some(Code::OfStep(step)) => Some(step),
        Some(Code::Wrong) | None => None,
    };
    let twin = match using.family {
        Some(family) => ledger.waiting(using.action)?.filter(|first| {
            let age = using.at.checked_sub(first.at);
            first.family != family as u8 && first.step == step && age.is_some_and(|age| age <= TWIN)
        }),
        None => None,
    };
    if let Some(code) = using.code
        && let Some(over) = check_code(ledger, using.at, code, twin)?
    {
        return Ok(Spent::Over(over));
    }
    if twin.is_some() {
        ledger.join(using.action)?;
        return Ok(Spent::Shared);
    }
    if let Some(most) = using.most
        && ledger.ever()? >= most.into()
    {
        return Ok(Spent::Over(Over { limit: Limit::Spent, next: None }));
    }
    let mut over = Vec::new();
    for (terms, action) in [(using.of_action, Some(using.action)), (using.of_user, None)] {
        if let Some(window) = terms.quota
            && ledger.uses(action, quarter(window.since))? >= window.most.into()
        {
            over.push(Over { limit: Limit::Quota, next: Some(window.until) });
        }
        if let Some(cooldown) = terms.cooldown
            && let Some(last) = ledger.last(action)?
        {
            let next = last.saturating_add(cooldown);
            if using.at < next {
                over.push(Over { limit: Limit::Cooldown, next: Some(next) });
            }
        }
    }
    // Of several, the one that holds longest.
    if let Some(longest) = over.into_iter().max_by_key(|over| over.next) {
        return Ok(Spent::Over(longest));
    }
    if let Some(step) = step {
        ledger.set_step(step)?;
    }
    let waiting = using.family.map(|family| Waiting { family: family as u8, at: using.at, step });
    ledger.add_use(using.action, using.at, waiting)?;
    Ok(Spent::Counted)
}

/// While a user is locked his codes are not looked at, so that guessing on neither succeeds nor prolongs it.
fn check_code<L: Ledger>(
    ledger: &mut L,
    at: u32,
    code: Code,
    twin: Option<Waiting>,
) -> Result<Option<Over>, L::Error> {
    let before = at.saturating_sub(LOCK);
    let failures = ledger.failures(before)?;
    if let Some(first) = failures.iter().rev().nth(FAILURES.saturating_sub(1)) {
        return Ok(Some(Over { limit: Limit::Locked, next: Some(first.saturating_add(LOCK)) }));
    }
    let limit = match code {
        Code::OfStep(_) if twin.is_some() => return Ok(None),
        Code::OfStep(step) if ledger.step()?.is_none_or(|last| step > last) => return Ok(None),
        Code::OfStep(_) => Limit::UsedCode,
        Code::Wrong => {
            ledger.add_failure(at, before)?;
            Limit::WrongCode
        }
    };
    Ok(Some(Over { limit, next: None }))
}

/// The quarter of an hour, counted from the Unix epoch, that a second is in.
pub(super) fn quarter(at: u32) -> u32 {
    at.div_euclid(QUARTER)
}

/// The earliest quarter that anything can be asked of at `at`: eight days back, for a week with its change of clocks.
pub(super) fn oldest(at: u32) -> u32 {
    quarter(at.saturating_sub(8 * 24 * 3600))
}

/// Wrong codes that lock a user,
const FAILURES: usize = 5;
/// and the seconds within which they do, and for which.
const LOCK: u32 = 15 * 60;

/// Seconds within which a knock over the other family is the same use.
const TWIN: u32 = 10;

const QUARTER: u32 = 15 * 60;
