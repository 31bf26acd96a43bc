//! Points in time as people write them: `7d`, `2026-10-01`, RFC 3339.

use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::error::{Error, Result};

/// Nanoseconds of a UTC day.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// Reads a point in time relative to now: a span back (`90s`, `30m`, `24h`, `7d`, `2w`), a UTC date
/// (its first instant), an RFC 3339 time, `now`, `today` or `yesterday`. Nanoseconds since the Unix epoch.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid), naming the forms.
pub fn parse_instant(text: &str, now_ns: i64) -> Result<i64> {
    let text = text.trim();
    let today = now_ns.div_euclid(DAY_NS) * DAY_NS;
    match text {
        "now" => return Ok(now_ns),
        "today" => return Ok(today),
        "yesterday" => return Ok(today - DAY_NS),
        _ => {}
    }
    span_back(text)
        .and_then(|span_ns| now_ns.checked_sub(span_ns))
        .or_else(|| instant(text))
        .ok_or_else(|| {
            Error::invalid(format!(
                "`{text}` is no point in time; write a span back such as 7d, 24h or 30m, a date such as 2026-10-01, or an RFC 3339 time"
            ))
        })
}

fn span_back(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let count: i64 = text.strip_suffix(unit)?.parse().ok().filter(|count| *count >= 0)?;
    let unit_ns = match unit {
        's' => 1_000_000_000,
        'm' => 60_000_000_000,
        'h' => 3_600_000_000_000,
        'd' => DAY_NS,
        'w' => 7 * DAY_NS,
        _ => return None,
    };
    count.checked_mul(unit_ns)
}

fn instant(text: &str) -> Option<i64> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    }
    DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt()
}

/// An instant as RFC 3339 in UTC, with as many decimals as it has.
#[must_use]
pub fn format_instant(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 2026-11-22T10:00:00Z.
    const NOW_NS: i64 = 1_795_341_600_000_000_000;

    #[test]
    fn instants_are_read_in_every_form() {
        for (text, expected) in [
            ("now", "2026-11-22T10:00:00Z"),
            ("7d", "2026-11-15T10:00:00Z"),
            ("24h", "2026-11-21T10:00:00Z"),
            ("30m", "2026-11-22T09:30:00Z"),
            ("2w", "2026-11-08T10:00:00Z"),
            ("today", "2026-11-22T00:00:00Z"),
            ("yesterday", "2026-11-21T00:00:00Z"),
            ("2026-10-01", "2026-10-01T00:00:00Z"),
            ("2026-10-01T02:00:00.5+02:00", "2026-10-01T00:00:00.500Z"),
        ] {
            assert_eq!(format_instant(parse_instant(text, NOW_NS).unwrap()), expected, "{text}");
        }
        for text in [
            "",
            "d",
            "-7d",
            "7 d",
            "7y",
            "2026-13-01",
            "last week",
            "9223372036854775807w",
        ] {
            assert!(parse_instant(text, NOW_NS).is_err(), "{text}");
        }
    }
}
