//! When a price holds: from and to an instant, in a window of the day, on some weekdays. All UTC.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike};

const DAY_NS: i64 = 86_400_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// A span of the day, nanoseconds since midnight UTC, half-open. It wraps past midnight where the end
/// is before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First nanosecond of the day.
    pub start_ns: i64,
    /// First nanosecond that is outside again.
    pub end_ns: i64,
}

/// Weekdays as a set; all seven unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekdays(u8);

/// Conditions on the instant of a call; all must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First instant, nanoseconds since the Unix epoch.
    pub from_ns: Option<i64>,
    /// First instant that is outside again.
    pub to_ns: Option<i64>,
    /// Window of the day.
    pub window: Option<Window>,
    /// Days of the week.
    pub weekdays: Weekdays,
}

impl Validity {
    /// Always.
    pub const ALWAYS: Self = Self {
        from_ns: None,
        to_ns: None,
        window: None,
        weekdays: Weekdays::ALL,
    };

    /// True where the price holds at this instant.
    #[must_use]
    pub fn holds_at(&self, at_ns: i64) -> bool {
        self.from_ns.is_none_or(|from| at_ns >= from)
            && self.to_ns.is_none_or(|to| at_ns < to)
            && self
                .window
                .is_none_or(|window| window.contains(at_ns.rem_euclid(DAY_NS)))
            && self.weekdays.contain(at_ns)
    }

    /// What tells this validity from others of the same price, for an identifier: `@2026-08-17`,
    /// `@00:30-16:30`, nothing where it is unconditional.
    #[must_use]
    pub fn suffix(&self) -> String {
        let mut suffix = String::new();
        if let Some(from) = self.from_ns {
            suffix.push_str(&format!("@{}", format_instant(from)));
        }
        if let Some(window) = self.window {
            suffix.push_str(&format!("@{window}"));
        }
        if self.weekdays != Weekdays::ALL {
            suffix.push_str(&format!("@{}", self.weekdays));
        }
        suffix
    }
}

impl Window {
    /// Reads `01:00:00Z` … `04:00:00Z`, with an offset and a fraction where there is one.
    pub(super) fn parse(start: &str, end: &str) -> Result<Self, String> {
        Ok(Self {
            start_ns: parse_time_of_day(start)?,
            end_ns: parse_time_of_day(end)?,
        })
    }

    fn contains(self, of_day_ns: i64) -> bool {
        let (after_start, before_end) = (of_day_ns >= self.start_ns, of_day_ns < self.end_ns);
        if self.end_ns < self.start_ns {
            after_start || before_end
        } else {
            after_start && before_end
        }
    }
}

impl fmt::Display for Window {
    /// `00:30-16:30`, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_day = |ns: i64| (ns / SECOND_NS / 3_600, ns / SECOND_NS / 60 % 60);
        let ((start_h, start_m), (end_h, end_m)) = (of_day(self.start_ns), of_day(self.end_ns));
        write!(f, "{start_h:02}:{start_m:02}-{end_h:02}:{end_m:02}")
    }
}

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0x7f);
    const NAMES: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// Reads names such as `mon`.
    pub(super) fn parse<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut days = 0;
        for name in names {
            let day = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
            days |=
                1 << day.ok_or_else(|| format!("unknown weekday {name:?}; write mon, tue, wed, thu, fri, sat, sun"))?;
        }
        if days == 0 {
            Err("no weekday is named".to_owned())
        } else {
            Ok(Self(days))
        }
    }

    fn contain(self, at_ns: i64) -> bool {
        // 1970-01-01 was a Thursday, day 3 from Monday.
        self == Self::ALL || self.0 >> (at_ns.div_euclid(DAY_NS) + 3).rem_euclid(7) & 1 == 1
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = Self::NAMES.iter().enumerate().filter(|(day, _)| self.0 >> day & 1 == 1);
        f.write_str(&days.map(|(_, name)| *name).collect::<Vec<_>>().join("+"))
    }
}

/// Nanoseconds since the Unix epoch of `2026-10-29` (midnight UTC) or of an RFC 3339 instant.
pub(crate) fn parse_instant(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid date {text:?}; write 2026-10-29 or 2026-10-29T00:00:00Z");
    let instant = match text.parse::<NaiveDate>() {
        Ok(date) => date.and_time(NaiveTime::MIN).and_utc(),
        Err(_) => DateTime::parse_from_rfc3339(text).map_err(|_| invalid())?.to_utc(),
    };
    instant.timestamp_nanos_opt().ok_or_else(invalid)
}

/// An instant as `2026-10-29`, or as RFC 3339 where it is not midnight UTC.
#[must_use]
pub fn format_instant(at_ns: i64) -> String {
    let instant = DateTime::from_timestamp_nanos(at_ns);
    if instant.time() == NaiveTime::MIN {
        format!("{:04}-{:02}-{:02}", instant.year(), instant.month(), instant.day())
    } else {
        instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    }
}

/// Nanoseconds since midnight UTC of `HH:MM:SS[.fraction](Z|±HH:MM)`.
fn parse_time_of_day(text: &str) -> Result<i64, String> {
    // The date only carries the offset; the time of day is taken after the shift to UTC.
    let instant = DateTime::parse_from_rfc3339(&format!("2000-01-02T{text}"))
        .map_err(|_| format!("invalid time of day {text:?}; write 01:00:00Z"))?;
    let time = instant.to_utc().time();
    Ok(i64::from(time.num_seconds_from_midnight()) * SECOND_NS + i64::from(time.nanosecond()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_window_may_wrap_past_midnight() {
        let validity = Validity {
            window: Some(Window::parse("16:30:00Z", "00:30:00Z").unwrap()),
            ..Validity::ALWAYS
        };
        for (at, holds) in [
            ("2026-11-18T16:29:59.999999999Z", false),
            ("2026-11-18T16:30:00Z", true),
            ("2026-11-18T23:59:59Z", true),
            ("2026-11-19T00:29:59Z", true),
            ("2026-11-19T00:30:00Z", false),
            ("1969-12-31T17:00:00Z", true),
        ] {
            assert_eq!(validity.holds_at(parse_instant(at).unwrap()), holds, "{at}");
        }
        assert_eq!(validity.suffix(), "@16:30-00:30");
        assert_eq!(
            Window::parse("08:00:00+08:00", "12:00:00+08:00").unwrap().to_string(),
            "00:00-04:00"
        );
    }

    #[test]
    fn weekdays_are_those_of_utc() {
        let weekend = Validity {
            weekdays: Weekdays::parse(["sat", "Sun"].into_iter()).unwrap(),
            ..Validity::ALWAYS
        };
        for (at, holds) in [
            ("2026-11-20T23:59:59Z", false),
            ("2026-11-21", true),
            ("2026-11-22", true),
            ("2026-11-23", false),
        ] {
            assert_eq!(weekend.holds_at(parse_instant(at).unwrap()), holds, "{at}");
        }
        assert_eq!(weekend.suffix(), "@sat+sun");
        assert!(Weekdays::parse(["someday"].into_iter()).is_err());
    }

    #[test]
    fn a_period_is_half_open() {
        let from_ns = Some(parse_instant("2026-10-29").unwrap());
        let to_ns = Some(parse_instant("2026-11-01T12:00:00Z").unwrap());
        let validity = Validity {
            from_ns,
            to_ns,
            ..Validity::ALWAYS
        };
        for (at, holds) in [
            ("2026-10-28T23:59:59Z", false),
            ("2026-10-29T00:00:00Z", true),
            ("2026-11-01T11:59:59Z", true),
            ("2026-11-01T12:00:00Z", false),
        ] {
            assert_eq!(validity.holds_at(parse_instant(at).unwrap()), holds, "{at}");
        }
        assert_eq!(validity.suffix(), "@2026-10-29");
        for text in ["2026-13-01", "yesterday", ""] {
            assert!(parse_instant(text).is_err(), "{text}");
        }
    }
}
