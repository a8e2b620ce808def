//! Times that a question names in words: `last week`, `in March`, `three days ago`, `on Monday`.
//!
//! Days are those of UTC, because the time zone of who asks is not known; ranges are wide enough for that not to matter
//! much: a time that is named only lends a little weight and hides nothing.

use crate::time::Timestamp;

const DAY_MS: i64 = 86_400_000;
/// `lately` means this many days.
const LATELY_DAYS: i64 = 14;

/// The time that a question is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct When {
    /// From the first time on until before the second.
    pub range: Option<(Timestamp, Timestamp)>,
    /// An earlier state is asked for, as in `before` or `used to`.
    pub earlier: bool,
}

impl When {
    /// Reads the words of a question, in lower case.
    #[must_use]
    pub fn of(words: &[&str], now: Timestamp) -> Self {
        let today = now.0.div_euclid(DAY_MS);
        let range = (0..words.len()).find_map(|at| range_at(words, at, today));
        let millis = |day: i64| Timestamp(day.saturating_mul(DAY_MS));
        let earlier = words.iter().any(|w| matches!(*w, "originally" | "initially" | "previously" | "formerly"))
            || words.windows(2).any(|pair| matches!(pair, ["used", "to"] | ["at", "first"]));
        Self { range: range.map(|(from, to)| (millis(from), millis(to))), earlier }
    }
}

/// The days that the words from `at` on name: from the first until before the second.
fn range_at(words: &[&str], at: usize, today: i64) -> Option<(i64, i64)> {
    let word = |offset: usize| words.get(at + offset).copied().unwrap_or_default();
    let month_start = |months_back: i64| {
        let (year, month, _) = date_of(today);
        let count = year * 12 + month - 1 - months_back;
        day_of(count.div_euclid(12), count.rem_euclid(12) + 1, 1)
    };
    let week_start = today - (today + 3).rem_euclid(7);
    match (word(0), word(1)) {
        ("today" | "tonight", _) | ("this", "morning" | "afternoon" | "evening") => Some((today, today + 1)),
        ("yesterday", _) | ("last", "night") => Some((today - 1, today)),
        ("this", "week") => Some((week_start, today + 1)),
        ("last" | "previous", "week") => Some((week_start - 7, week_start)),
        ("this", "month") => Some((month_start(0), today + 1)),
        ("last" | "previous", "month") => Some((month_start(1), month_start(0))),
        ("this", "year") => Some((day_of(date_of(today).0, 1, 1), today + 1)),
        ("last" | "previous", "year") => Some((day_of(date_of(today).0 - 1, 1, 1), day_of(date_of(today).0, 1, 1))),
        ("recently" | "lately", _) => Some((today - LATELY_DAYS, today + 1)),
        ("past" | "last", _) if count_of(word(1)).is_some() => {
            let days = count_of(word(1))?.saturating_mul(unit_days(word(2))?);
            Some((today - days, today + 1))
        }
        ("past", unit) => Some((today - unit_days(unit)?, today + 1)),
        ("last" | "on" | "since" | "this", day) if weekday(day).is_some() => {
            let back = (today + 3 - weekday(day)?).rem_euclid(7);
            let back = if back == 0 && word(0) == "last" { 7 } else { back };
            Some((today - back, if word(0) == "since" { today + 1 } else { today - back + 1 }))
        }
        ("in" | "since" | "last" | "during" | "early" | "late" | "of" | "mid", month) if month_of(month).is_some() => {
            let named = month_of(month)?;
            let (year, current, _) = date_of(today);
            let stated = word(2).parse().ok().filter(|year| (1970..=2999).contains(year));
            let year = stated.unwrap_or(if named <= current { year } else { year - 1 });
            let next = if named == 12 { day_of(year + 1, 1, 1) } else { day_of(year, named + 1, 1) };
            Some((day_of(year, named, 1), if word(0) == "since" { today + 1 } else { next }))
        }
        (count, unit) if word(2) == "ago" => {
            let unit = unit_days(unit)?;
            let days = count_of(count)?.saturating_mul(unit);
            // `Two weeks ago` is said of anything from ten days to nearly three weeks ago.
            let slack = if unit == 1 { 1 } else { unit * 2 / 3 };
            Some((today - days - slack, (today - days + slack + 1).min(today + 1)))
        }
        _ => None,
    }
}

fn count_of(word: &str) -> Option<i64> {
    const WORDS: [&str; 13] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    match word {
        "a" | "an" => Some(1),
        "couple" => Some(2),
        "few" | "several" => Some(3),
        _ => {
            let named = (0..).zip(WORDS).find(|(_, name)| *name == word).map(|(count, _)| count);
            named.or_else(|| word.parse().ok().filter(|count| (0..=10_000).contains(count)))
        }
    }
}

fn unit_days(word: &str) -> Option<i64> {
    match word {
        "day" | "days" => Some(1),
        "week" | "weeks" => Some(7),
        "month" | "months" => Some(30),
        "year" | "years" => Some(365),
        _ => None,
    }
}

/// Monday is 0.
fn weekday(word: &str) -> Option<i64> {
    const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    (0..).zip(DAYS).find(|(_, name)| *name == word).map(|(day, _)| day)
}

/// January is 1.
fn month_of(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    (1..).zip(MONTHS).find(|(_, name)| *name == word).map(|(month, _)| month)
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The number of days from 1970-01-01 to a date.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_lead_to_each_other() {
        for day in (-800_000..800_000).step_by(13) {
            let (year, month, date) = date_of(day);
            assert_eq!(day_of(year, month, date), day);
        }
        assert_eq!(date_of(0), (1970, 1, 1));
    }

    #[test]
    fn times_in_words_are_understood() {
        // A Wednesday.
        let now = Timestamp::parse("2026-03-18T15:00:00Z").unwrap();
        for (text, from, to) in [
            ("what happened yesterday", "2026-03-17", "2026-03-18"),
            ("decisions of last week", "2026-03-09", "2026-03-16"),
            ("what broke on monday", "2026-03-16", "2026-03-17"),
            ("what did we ship in february", "2026-02-01", "2026-03-01"),
            ("trips in november", "2025-11-01", "2025-12-01"),
            ("trips in november 2024", "2024-11-01", "2024-12-01"),
            ("who called three days ago", "2026-03-14", "2026-03-17"),
            ("bugs of the past two weeks", "2026-03-04", "2026-03-19"),
            ("what we planned last month", "2026-02-01", "2026-03-01"),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            let range = When::of(&words, now).range;
            assert_eq!(range, Timestamp::parse(from).zip(Timestamp::parse(to)), "{text}");
        }
        for text in ["last deploy", "may I go", "the past is a foreign country", "ago", ""] {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(When::of(&words, now).range, None, "{text}");
        }
    }
}
