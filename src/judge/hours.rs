//! When something is open, and when a quota begins anew: instants to local clocks and back.
//!
//! Hours are read off the clock on the wall: an hour that comes twice in autumn is open twice, and what lies in the hour
//! that is left out in spring does not come.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::config::allowance::{Hours, Period, Quota};

/// Whether one of the spans is open at `at`, or there is none.
pub(super) fn are_open(hours: &[Hours], at: Timestamp) -> bool {
    hours.is_empty() || hours.iter().any(|span| is_open(span, at))
}

/// The first moment from `at` on at which each of `all` is open; `None`: they never meet, or not for a long time.
pub(super) fn next_open(all: &[&[Hours]], at: Timestamp) -> Option<Timestamp> {
    let mut next = at;
    // Each turn moves on to a moment before which nothing is open.
    for _ in 0..TURNS {
        match all.iter().find(|hours| !are_open(hours, next)) {
            Some(closed) => next = closed.iter().filter_map(|span| opens(span, next)).min()?,
            None => return Some(next),
        }
    }
    None
}

/// When the period that `at` is in began, and when it ends.
pub(super) fn period(quota: &Quota, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let local = quota.zone.to_datetime(at);
    let midnight = |days: i32| {
        let date = local.date().checked_add(days.days()).ok()?;
        Some(date.to_zoned(quota.zone.clone()).ok()?.timestamp())
    };
    match quota.per {
        Period::Hour => {
            let into = i64::from(local.minute()).checked_mul(60)?.checked_add(local.second().into())?;
            let since = Timestamp::from_second(at.as_second().checked_sub(into)?).ok()?;
            Some((since, since.checked_add(1.hour()).ok()?))
        }
        Period::Day => Some((midnight(0)?, midnight(1)?)),
        Period::Week => {
            let into = i32::from(local.date().weekday().to_monday_zero_offset());
            Some((midnight(into.checked_neg()?)?, midnight(7_i32.checked_sub(into)?)?))
        }
    }
}

/// A wall clock, since the Unix epoch; past the calendar's end (year 9999) it stands still.
pub(super) fn instant(wall: Duration) -> Timestamp {
    let since = SignedDuration::try_from(wall).unwrap_or(SignedDuration::MAX);
    Timestamp::from_duration(since).unwrap_or(Timestamp::MAX)
}

fn is_open(span: &Hours, at: Timestamp) -> bool {
    let local = span.zone.to_datetime(at);
    let hours = u16::from(local.hour().unsigned_abs());
    let minute = hours.saturating_mul(60).saturating_add(local.minute().unsigned_abs().into());
    let today = span.days.has(local.weekday());
    if span.from < span.to {
        return today && (span.from..span.to).contains(&minute);
    }
    let yesterday = span.days.has(local.weekday().previous());
    (today && minute >= span.from) || (yesterday && minute < span.to)
}

/// When a span that is closed at `at` opens: as its clock shows so, or as its clock is changed.
fn opens(span: &Hours, at: Timestamp) -> Option<Timestamp> {
    let today = span.zone.to_datetime(at).date();
    let (hour, minute) =
        (i8::try_from(span.from.div_euclid(60)).ok()?, i8::try_from(span.from.rem_euclid(60)).ok()?);
    // The same day a week later may be the next.
    let begins = (0..=7).filter_map(|days: i32| {
        let begin = today.checked_add(days.days()).ok()?.at(hour, minute, 0, 0);
        Some(instants(&span.zone, begin))
    });
    let week = at.checked_add(SignedDuration::from_hours(8 * 24)).unwrap_or(Timestamp::MAX);
    let changes =
        span.zone.following(at).map(|change| change.timestamp()).take_while(|change| *change < week);
    let candidates = begins.flatten().flatten().chain(changes);
    candidates.filter(|moment| *moment > at && is_open(span, *moment)).min()
}

/// When a clock shows this: twice where it is put back, and where it is put forward, as if it had not been.
fn instants(zone: &TimeZone, local: DateTime) -> [Option<Timestamp>; 2] {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    [ambiguous.earlier().ok(), ambiguous.later().ok()]
}

/// Hours that never meet are asked so often; those that do, meet within a week or two.
const TURNS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::allowance::zone;

    fn hours(text: &str) -> Hours {
        Hours::parse(text, &TimeZone::UTC).unwrap()
    }

    fn quota(text: &str, name: &str) -> Quota {
        Quota::parse(text, &zone(name).unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(spans: &[&str], from: &str) -> String {
        let spans: Vec<Hours> = spans.iter().map(|span| hours(span)).collect();
        next_open(&[&spans], at(from)).map_or("never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn hours_begin_at_their_first_minute_and_end_before_their_last() {
        let office = [hours("mon-fri 08:00-18:00 Europe/Berlin")];
        let cases = [
            // A Friday; Berlin is an hour ahead of UTC.
            ("2026-01-16T06:59:59.999Z", false),
            ("2026-01-16T07:00:00Z", true),
            ("2026-01-16T16:59:59.999Z", true),
            ("2026-01-16T17:00:00Z", false),
            ("2026-01-17T09:00:00Z", false),
            // In summer, two.
            ("2026-07-17T06:00:00Z", true),
            ("2026-07-17T16:00:00Z", false),
        ];
        for (moment, open) in cases {
            assert_eq!(are_open(&office, at(moment)), open, "{moment}");
        }
        assert!(are_open(&[], at("2026-01-17T09:00:00Z")));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = [hours("fri 22:00-06:00")];
        let cases = [
            ("2026-01-16T21:59:00Z", false),
            ("2026-01-16T22:00:00Z", true),
            ("2026-01-17T05:59:00Z", true),
            ("2026-01-17T06:00:00Z", false),
            ("2026-01-17T23:00:00Z", false),
            ("2026-01-16T05:00:00Z", false),
        ];
        for (moment, open) in cases {
            assert_eq!(are_open(&night, at(moment)), open, "{moment}");
        }
    }

    #[test]
    fn the_next_opening_is_told() {
        let office = "mon-fri 08:00-18:00 Europe/Berlin";
        assert_eq!(next(&[office], "2026-01-16T10:00:00Z"), "2026-01-16T10:00:00Z");
        assert_eq!(next(&[office], "2026-01-16T17:00:00Z"), "2026-01-19T07:00:00Z");
        assert_eq!(next(&[office, "sat 10:00-12:00"], "2026-01-16T17:00:00Z"), "2026-01-17T10:00:00Z");
        // The same day, a week later.
        assert_eq!(next(&["fri 08:00-09:00"], "2026-01-16T09:00:00Z"), "2026-01-23T08:00:00Z");
        assert_eq!(next(&["08:00-09:00"], "2026-01-16T09:00:00Z"), "2026-01-17T08:00:00Z");
    }

    #[test]
    fn hours_of_user_and_action_hold_both() {
        let user = [hours("mon-wed 08:00-12:00")];
        let action = [hours("wed-fri 11:00-18:00")];
        let both = |from| next_open(&[&user, &action], at(from)).map(|next| next.to_string());
        assert_eq!(both("2026-01-16T09:00:00Z").as_deref(), Some("2026-01-21T11:00:00Z"));
        assert_eq!(next_open(&[&user, &[hours("sat 08:00-12:00")]], at("2026-01-16T09:00:00Z")), None);
    }

    #[test]
    fn an_hour_that_is_left_out_opens_with_the_clock_and_one_that_comes_twice_opens_twice() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00Z.
        assert_eq!(next(&["sun 02:30-04:00 Europe/Berlin"], "2026-03-29T00:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next(&["sun 02:00-03:00 Europe/Berlin"], "2026-03-29T00:00:00Z"), "2026-04-05T00:00:00Z");
        // 2026-10-25: 03:00 becomes 02:00 at 01:00Z.
        let early = "sun 02:15-02:30 Europe/Berlin";
        assert_eq!(next(&[early], "2026-10-25T00:00:00Z"), "2026-10-25T00:15:00Z");
        assert_eq!(next(&[early], "2026-10-25T00:30:00Z"), "2026-10-25T01:15:00Z");
        assert_eq!(next(&[early], "2026-10-25T01:30:00Z"), "2026-11-01T01:15:00Z");
        // Put back into a span: it opens as the clock is changed.
        assert_eq!(next(&["sun 01:30-02:30 Europe/Berlin"], "2026-10-25T00:45:00Z"), "2026-10-25T01:00:00Z");
    }

    #[test]
    fn a_quota_begins_anew_with_its_zones_hour_day_and_week() {
        let cases = [
            "1/hour Asia/Kolkata 2026-01-16T09:45:10Z: 2026-01-16T09:30:00Z to 2026-01-16T10:30:00Z",
            "1/day Europe/Berlin 2026-01-16T22:59:59Z: 2026-01-15T23:00:00Z to 2026-01-16T23:00:00Z",
            "1/day Europe/Berlin 2026-01-16T23:00:00Z: 2026-01-16T23:00:00Z to 2026-01-17T23:00:00Z",
            // 23 and 25 hours.
            "1/day Europe/Berlin 2026-03-29T12:00:00Z: 2026-03-28T23:00:00Z to 2026-03-29T22:00:00Z",
            "1/day Europe/Berlin 2026-10-25T12:00:00Z: 2026-10-24T22:00:00Z to 2026-10-25T23:00:00Z",
            // A day without midnight.
            "1/day America/Asuncion 2023-10-01T12:00:00Z: 2023-10-01T04:00:00Z to 2023-10-02T03:00:00Z",
            "1/week UTC 2026-01-18T23:59:59Z: 2026-01-12T00:00:00Z to 2026-01-19T00:00:00Z",
            "1/week UTC 2026-01-19T00:00:00Z: 2026-01-19T00:00:00Z to 2026-01-26T00:00:00Z",
        ];
        for case in cases {
            let (asked, _) = case.split_once(": ").unwrap();
            let [text, zone, moment] = asked.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let (since, until) = period(&quota(text, zone), at(moment)).unwrap();
            assert_eq!(format!("{asked}: {since} to {until}"), case);
        }
    }

    #[test]
    fn no_clock_is_too_late() {
        let late = instant(Duration::MAX);
        assert_eq!(late, Timestamp::MAX);
        let span = hours("mon 08:00-09:00");
        assert!(next_open(&[&[span]], late).is_none());
        assert!(period(&quota("1/week", "UTC"), late).is_none());
        assert_eq!(instant(Duration::ZERO), Timestamp::UNIX_EPOCH);
    }

    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"];

    fn some_hours() -> impl Strategy<Value = Hours> {
        let days = prop::sample::select(vec!["", "mon-fri", "sat-sun", "sun", "fri-mon", "tue,thu"]);
        let minutes = (0_u16..1440, 0_u16..=1440).prop_filter("nothing", |(from, to)| from != to);
        (days, minutes, prop::sample::select(ZONES.to_vec())).prop_map(|(days, (from, to), zone)| {
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            hours(&format!("{days} {}-{} {zone}", clock(from), clock(to)))
        })
    }

    /// Some within days of a change of clocks.
    fn some_moment() -> impl Strategy<Value = Timestamp> {
        let near = prop::sample::select(vec![
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-04-04T15:00:00Z",
            "2026-10-03T15:30:00Z",
        ]);
        let minutes = -3 * 24 * 60_i64..3 * 24 * 60;
        (near, minutes).prop_map(|(near, minutes)| at(near).checked_add(minutes.minutes()).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_next_opening_is_the_first_minute_that_is_open(
            user in prop::collection::vec(some_hours(), 1..3),
            action in prop::collection::vec(some_hours(), 0..2),
            from in some_moment(),
        ) {
            let all: [&[Hours]; 2] = [&user, &action];
            let found = next_open(&all, from);
            let minutes = (0..9 * 24 * 60_i64).map(|minutes| from.checked_add(minutes.minutes()).unwrap());
            let mut open = minutes.filter(|minute| all.iter().all(|hours| are_open(hours, *minute)));
            match (open.next(), found) {
                (Some(first), found) => prop_assert_eq!(found, Some(first)),
                (None, Some(later)) => prop_assert!(later >= from.checked_add((9 * 24).hours()).unwrap()),
                (None, None) => {}
            }
        }

        #[test]
        fn a_period_holds_its_moment_and_the_next_begins_where_it_ends(
            moment in some_moment(),
            zone in prop::sample::select(ZONES.to_vec()),
            per in prop::sample::select(vec!["1/hour", "1/day", "1/week"]),
        ) {
            let quota = quota(per, zone);
            let (since, until) = period(&quota, moment).unwrap();
            prop_assert!(since <= moment && moment < until);
            if quota.per != Period::Hour {
                prop_assert_eq!(period(&quota, until).unwrap().0, until);
                prop_assert_eq!(period(&quota, since).unwrap(), (since, until));
            }
        }
    }
}
