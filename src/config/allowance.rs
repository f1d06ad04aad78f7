//! When and how often, as it is written: `cooldown`, `quota`, `hours`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

/// When and how often: of a user over all he runs, or of an action for each user by himself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Least time between two uses, in whole seconds.
    pub cooldown: Option<u32>,
    /// Most uses in a period.
    pub quota: Option<Quota>,
    /// Spans of the week, of which one must be open; none: always.
    pub hours: Vec<Hours>,
}

/// "20/day"
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// At least 1.
    pub most: u32,
    /// In what.
    pub per: Period,
    /// Whose days.
    pub zone: TimeZone,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From midnight to Monday.
    Week,
}

/// "mon-fri 08:00-18:00 Europe/Berlin": what the clock on the wall there shows, whatever was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// On which days it begins.
    pub days: Days,
    /// Minute of the day, included.
    pub from: u16,
    /// Minute of the day, not included, at most 1440; of the next day where it is not above `from`.
    pub to: u16,
    /// Where.
    pub zone: TimeZone,
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u8);

impl Quota {
    /// Reads "20/day"; its days are those of `zone`.
    pub fn parse(text: &str, zone: &TimeZone) -> Option<Quota> {
        let (most, per) = text.split_once('/')?;
        let per = match per.trim() {
            "hour" => Period::Hour,
            "day" => Period::Day,
            "week" => Period::Week,
            _ => return None,
        };
        let most = digits(most.trim(), QUOTA_DIGITS).filter(|most| *most > 0)?;
        Some(Quota { most, per, zone: zone.clone() })
    }
}

impl Hours {
    /// Reads "mon-fri,sun 08:00-18:00 Europe/Berlin". Without days it is every day, without a zone `zone`; 22:00-06:00 ends
    /// on the next day.
    ///
    /// # Errors
    ///
    /// [`BadHours`].
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Hours, BadHours> {
        let mut words = text.split_ascii_whitespace().peekable();
        let days = match words.next_if(|word| !word.starts_with(|c: char| c.is_ascii_digit())) {
            Some(word) => Days::parse(word).ok_or(BadHours::Form)?,
            None => Days::ALL,
        };
        let (from, to) = words.next().and_then(|word| word.split_once('-')).ok_or(BadHours::Form)?;
        let (from, to) = (minute(from).ok_or(BadHours::Form)?, minute(to).ok_or(BadHours::Form)?);
        if from == to || from == DAY {
            return Err(BadHours::Empty);
        }
        let zone = match words.next() {
            Some(name) => self::zone(name).ok_or_else(|| BadHours::Zone(name.to_owned()))?,
            None => zone.clone(),
        };
        if words.next().is_some() { Err(BadHours::Form) } else { Ok(Hours { days, from, to, zone }) }
    }
}

/// Why a text names no hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadHours {
    /// Not written as it must be.
    Form,
    /// They end when they begin.
    Empty,
    /// Nobody knows this time zone.
    Zone(String),
}

impl Days {
    /// Every day.
    pub const ALL: Days = Days(0b111_1111);

    /// Whether `day` is one of them.
    pub fn has(self, day: Weekday) -> bool {
        self.0 & bit(day) != 0
    }

    /// "mon-fri", "fri-mon", "mon,wed,sat-sun"
    fn parse(text: &str) -> Option<Days> {
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            // Seven at most: it comes round to any day.
            let span = first.cycle_forward().take_while(|day| *day != last).take(7);
            days = span.fold(days | bit(last), |days, day| days | bit(day));
        }
        Some(Days(days))
    }
}

/// The end of an RFC 3339 timestamp, or of a date, which is meant with all of its day in `zone`; since the Unix epoch.
pub fn last_moment(text: &str, zone: &TimeZone) -> Option<Duration> {
    // Only of a date alone: a time of day without its offset would be read as one.
    let date = || Some(text).filter(|text| text.len() == "2030-12-31".len())?.parse::<Date>().ok();
    let end = || date()?.to_zoned(zone.clone()).ok()?.end_of_day().ok();
    let moment = text.parse::<Timestamp>().ok().or_else(|| Some(end()?.timestamp()))?;
    Duration::try_from(moment.duration_since(Timestamp::UNIX_EPOCH)).ok()
}

/// A zone of the IANA database, such as Europe/Berlin; UTC is one.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// That of the server, as it is written, or the system's.
pub fn server_zone(written: Option<&str>) -> TimeZone {
    written.and_then(zone).or_else(|| TimeZone::try_system().ok()).unwrap_or(TimeZone::UTC)
}

fn bit(day: Weekday) -> u8 {
    1_u8.rotate_left(day.to_monday_zero_offset().unsigned_abs().into())
}

fn day(text: &str) -> Option<Weekday> {
    let days = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    days.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, day)| day)
}

/// "08:00", and "24:00" for the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (u16::try_from(digits(hours, 2)?).ok()?, u16::try_from(digits(minutes, 2)?).ok()?);
    let minute = hours.checked_mul(60)?.checked_add(minutes)?;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

/// A whole number of at most so many digits and nothing else.
fn digits(text: &str, most: usize) -> Option<u32> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// Minutes in it.
const DAY: u16 = 24 * 60;

/// 999,999 uses.
const QUOTA_DIGITS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Result<Hours, BadHours> {
        Hours::parse(text, &TimeZone::UTC)
    }

    #[test]
    fn hours_read_as_people_write_them() {
        let cases = [
            ("mon-fri 08:00-18:00", 0b001_1111, 480, 1080),
            ("08:00-18:00", 0b111_1111, 480, 1080),
            ("fri-mon 22:00-06:00", 0b111_0001, 1320, 360),
            ("Mon,WED,sat-sun 0:00-24:00", 0b110_0101, 0, 1440),
            ("  sun-sat  00:00-00:01 ", 0b111_1111, 0, 1),
            ("tue-tue 23:59-00:00", 0b000_0010, 1439, 0),
        ];
        for (text, days, from, to) in cases {
            assert_eq!(hours(text), Ok(Hours { days: Days(days), from, to, zone: TimeZone::UTC }), "{text}");
        }
        let berlin = hours("sat 10:00-14:00 Europe/Berlin").unwrap().zone;
        assert_eq!(berlin.iana_name(), Some("Europe/Berlin"));
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        let cases = [
            "",
            "mon",
            "mon-fri",
            "mon-fri 08:00",
            "mon-fri 8-18",
            "mon-fri 08:00 - 18:00",
            "mo-fr 08:00-18:00",
            "mon- 08:00-18:00",
            "-fri 08:00-18:00",
            "mon,,tue 08:00-18:00",
            "mon 08:60-09:00",
            "mon 08:00-24:01",
            "mon 25:00-26:00",
            "mon +8:00-09:00",
            "mon 08:00-09:00 UTC more",
            "mon 008:00-09:00",
            "montag 08:00-09:00",
        ];
        for text in cases {
            assert_eq!(hours(text), Err(BadHours::Form), "{text:?}");
        }
        for text in ["08:00-08:00", "24:00-08:00", "24:00-24:00"] {
            assert_eq!(hours(text), Err(BadHours::Empty), "{text:?}");
        }
        assert_eq!(hours("08:00-09:00 Atlantis"), Err(BadHours::Zone("Atlantis".to_owned())));
    }

    #[test]
    fn a_quota_reads_as_people_write_it() {
        let quota = |text| Quota::parse(text, &TimeZone::UTC).map(|quota| (quota.most, quota.per));
        assert_eq!(quota("20/day"), Some((20, Period::Day)));
        assert_eq!(quota("1 / hour"), Some((1, Period::Hour)));
        assert_eq!(quota("999999/week"), Some((999_999, Period::Week)));
        for text in [
            "",
            "20",
            "/day",
            "20/",
            "0/day",
            "-1/day",
            "+1/day",
            "1000000/day",
            "20/days",
            "20/Day",
            "20/day/day",
        ] {
            assert_eq!(quota(text), None, "{text:?}");
        }
    }
}
