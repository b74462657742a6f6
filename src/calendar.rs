//! Dates in UTC, for months of coins and for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Year, month 1..=12 and day 1..=31 of a time in seconds since 1970-01-01 UTC.
pub const fn date(unix_seconds: u64) -> (i64, i64, i64) {
    // The calendar by days since 0000-03-01, as all of a year's irregularity then comes last.
    let days = (unix_seconds / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_after_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_after_march + 2) / 5 + 1;
    let months = (era * 400 + year_of_era) * 12 + months_after_march + 2;
    (months / 12, months % 12 + 1, day)
}

/// The time of this machine's clock, milliseconds since 1970-01-01 UTC; 0 where it is set before.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 3_600_000;
/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// The name of a day since 1970-01-01 UTC: `2026-11-22`.
pub fn day_name(day: u64) -> String {
    let (year, month, day) = date(day * 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The name of an hour since 1970-01-01 UTC: `2026-11-22T07`.
pub fn hour_name(hour: u64) -> String {
    format!("{}T{:02}", day_name(hour / 24), hour % 24)
}

/// Date and time of day as ISO 8601 writes them, from milliseconds since 1970-01-01 UTC.
pub fn iso(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (minute, second) = (seconds / 60 % 60, seconds % 60);
    format!("{}:{minute:02}:{second:02}.{:03}Z", hour_name(unix_ms / HOUR_MS), unix_ms % 1000)
}

/// Days from 1970-01-01 to a date, `None` where there is no such day, or it is before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // As in [`date`], years begin in March.
    let (year_from_march, months_after_march) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * months_after_march + 2) / 5 + day;
    let days = (era * 146_097 + day_of_era).checked_sub(719_469)?;
    (date(days * 86_400) == (year as i64, month as i64, day as i64)).then_some(days)
}

/// The milliseconds since 1970-01-01 UTC of a time as [`iso`] writes it, or the beginning of it: a date, or a date with
/// hours and minutes, seconds, milliseconds; the `Z` may be left out. `None`: it is none, or before 1970.
pub fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (time, milliseconds) = time.split_once('.').unwrap_or((time, "000"));
    let parts = |text: &str, separator: char, widths: &[usize]| -> Option<Vec<u64>> {
        let parts: Vec<&str> = text.split(separator).collect();
        let wide = parts.iter().zip(widths).all(|(part, width)| part.len() == *width);
        let digits = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        (wide && digits && parts.len() <= widths.len())
            .then(|| parts.iter().filter_map(|part| part.parse().ok()).collect())
    };
    let &[year, month, day] = &parts(date, '-', &[4, 2, 2])?[..] else { return None };
    let (hour, minute, second) = match parts(time, ':', &[2, 2, 2])?[..] {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let milliseconds = parts(milliseconds, '.', &[3])?[0];
    let midnight = 86_400 * days(year, month, day)?;
    let in_day = (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)?;
    Some((midnight + in_day) * 1000 + milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_other_calendars_have_them() {
        for (seconds, expected) in [
            (0, (1970, 1, 1)),
            (951_782_400, (2000, 2, 29)),
            (1_677_628_799, (2023, 2, 28)),
            (1_677_628_800, (2023, 3, 1)),
            (1_735_689_599, (2024, 12, 31)),
            (4_107_542_400, (2100, 3, 1)),
        ] {
            assert_eq!(date(seconds), expected);
        }
        assert_eq!(iso(1_795_309_260_007), "2026-11-22T01:01:00.007Z");
    }

    #[test]
    fn times_come_back_as_they_were_written() {
        for ms in [0, 951_782_400_000, 1_677_628_799_999, 1_795_309_260_007, 4_107_542_400_000] {
            assert_eq!(parse(&iso(ms)), Some(ms));
        }
        assert_eq!(parse("2026-11-22"), parse("2026-11-22T00:00:00.000Z"));
        assert_eq!(parse("2026-11-22T01:01"), Some(1_795_309_260_000));
        assert_eq!(parse("2026-11-22T01:01:09Z"), Some(1_795_309_269_000));
        for wrong in [
            "",
            "2026",
            "2026-11",
            "2026-11-31",
            "2025-02-29",
            "2026-00-10",
            "2026-1-1",
            "1969-12-31",
            "2026-11-22T",
            "2026-11-22T24:00",
            "2026-11-22T01",
            "2026-11-22T01:01:01.5",
            "2026-11-22 01:01",
            "+026-11-22",
            "2026-11-22-1",
            "20é6-11-22",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
