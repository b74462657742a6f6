//! Dates in UTC, for months of coins and for people.

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

/// Date and time of day as ISO 8601 writes them, from milliseconds since 1970-01-01 UTC.
pub fn iso(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = date(seconds);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_ms % 1000)
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
}
