//! Times: RFC 3339 in and out.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Function, exactly};
use crate::bake::source::Fault;
use crate::bake::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("timestamp", 0, |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = i64::try_from(now).unwrap_or(i64::MAX);
        Ok(Time { seconds, offset: 0 }.rfc3339().into())
    }),
    exactly("timeadd", 2, |a| {
        let (text, span) = (a[0].to_text()?, a[1].to_text()?);
        let mut time = Time::parse(&text).ok_or_else(|| not_a_time(&text))?;
        let added = duration(&span).ok_or_else(|| Fault::new(format!("{span:?} is no duration, such as 1h30m")))?;
        time.seconds = time.seconds.saturating_add(added);
        Ok(time.rfc3339().into())
    }),
    exactly("unixtimestampparse", 1, |a| {
        let seconds = a[0].to_integer()?;
        let time = Time { seconds, offset: 0 };
        if !(0..10_000).contains(&time.civil().year) {
            return Err(Fault::new(format!("{seconds} is out of range")));
        }
        Ok(parts(time, ("rfc3339", time.rfc3339().into())))
    }),
    exactly("rfc3339parse", 1, |a| {
        let text = a[0].to_text()?;
        let time = Time::parse(&text).ok_or_else(|| not_a_time(&text))?;
        Ok(parts(time, ("unix", number(time.seconds))))
    }),
    exactly("formatdate", 2, |a| {
        let (form, text) = (a[0].to_text()?, a[1].to_text()?);
        format(&form, Time::parse(&text).ok_or_else(|| not_a_time(&text))?)
    }),
];

/// The parts of a time as an object, with one more.
fn parts(time: Time, more: (&str, Value)) -> Value {
    let Civil { year, month, day, hour, minute, second, weekday } = time.civil();
    let days = days_from_civil(year, month, day);
    // A week belongs to the year of its Thursday.
    let thursday = days - (weekday + 6) % 7 + 3;
    let (iso_year, ..) = civil_from_days(thursday);
    let fields = [
        ("year", number(year)),
        ("year_day", number(days - days_from_civil(year, 1, 1) + 1)),
        ("day", number(day)),
        ("month", number(month)),
        ("month_name", name(&MONTHS, month - 1).into()),
        ("weekday", number(weekday)),
        ("weekday_name", name(&DAYS, weekday).into()),
        ("hour", number(hour)),
        ("minute", number(minute)),
        ("second", number(second)),
        ("iso_year", number(iso_year)),
        ("iso_week", number((thursday - days_from_civil(iso_year, 1, 1)) / 7 + 1)),
        more,
    ];
    Value::Map(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

#[expect(clippy::cast_precision_loss, reason = "times are small")]
const fn number(value: i64) -> Value {
    Value::Number(value as f64)
}

fn name(names: &[&'static str], at: i64) -> &'static str {
    names[usize::try_from(at).unwrap_or_default() % names.len()]
}

fn not_a_time(text: &str) -> Fault {
    Fault::new(format!("{text:?} is no time, such as 2006-01-02T15:04:05Z"))
}

/// A moment, seen from a time zone.
#[derive(Debug, Clone, Copy)]
struct Time {
    /// Since 1970, UTC.
    seconds: i64,
    /// Of the zone, in seconds.
    offset: i64,
}

/// A moment on a clock and in a calendar.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// Days since Sunday.
    weekday: i64,
}

impl Time {
    fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let part = text.get(from..to)?;
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
        };
        let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).filter(|b| marks.contains(b)).map(|_| ());
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        for at in [4, 7] {
            mark(at, b"-")?;
        }
        mark(10, b"T")?;
        for at in [13, 16] {
            mark(at, b":")?;
        }
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let rest = text.get(19..)?;
        let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        let offset = match rest.as_bytes() {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let minutes = rest.get(1..3)?.parse::<i64>().ok()? * 60 + rest.get(4..6)?.parse::<i64>().ok()?;
                if *sign == b'-' { -minutes * 60 } else { minutes * 60 }
            }
            _ => return None,
        };
        let local = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self { seconds: local - offset, offset })
    }

    fn civil(self) -> Civil {
        let local = self.seconds.saturating_add(self.offset);
        let (days, rest) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
        }
    }

    fn zone(self, colon: &str) -> String {
        let minutes = self.offset.abs() / 60;
        format!("{}{:02}{colon}{:02}", if self.offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }

    fn rfc3339(self) -> String {
        let Civil { year, month, day, hour, minute, second, .. } = self.civil();
        let zone = if self.offset == 0 { "Z".to_owned() } else { self.zone(":") };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
    }
}

/// Days since 1970 of a day of the Gregorian calendar, counted in years that begin in March.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (year + era * 400 + (month <= 2) as i64, month, day)
}

/// `1h30m`, in seconds.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    Some((sign * total) as i64)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Letters that repeat stand for a part of the time; text in quotes and other characters for themselves.
fn format(form: &str, time: Time) -> Result<Value, Fault> {
    let Civil { year, month, day, hour, minute, second, weekday } = time.civil();
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut rest = form;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let end = rest[1..].find('\'').ok_or_else(|| Fault::new("a quote is not closed"))? + 1;
            out.push_str(if end == 1 { "'" } else { &rest[1..end] });
            rest = &rest[end + 1..];
            continue;
        }
        if !first.is_ascii_alphabetic() {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| c != first).unwrap_or(rest.len());
        out.push_str(&match &rest[..end] {
            "YYYY" => format!("{year:04}"),
            "YY" => format!("{:02}", year.rem_euclid(100)),
            "MMMM" => name(&MONTHS, month - 1).to_owned(),
            "MMM" => name(&MONTHS, month - 1)[..3].to_owned(),
            "MM" => format!("{month:02}"),
            "M" => month.to_string(),
            "DD" => format!("{day:02}"),
            "D" => day.to_string(),
            "EEEE" => name(&DAYS, weekday).to_owned(),
            "EEE" => name(&DAYS, weekday)[..3].to_owned(),
            "hh" => format!("{hour:02}"),
            "h" => hour.to_string(),
            "HH" => format!("{half:02}"),
            "H" => half.to_string(),
            "AA" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            "aa" => if hour < 12 { "am" } else { "pm" }.to_owned(),
            "mm" => format!("{minute:02}"),
            "m" => minute.to_string(),
            "ss" => format!("{second:02}"),
            "s" => second.to_string(),
            "ZZZZZ" => time.zone(":"),
            "ZZZZ" => time.zone(""),
            "ZZZ" if time.offset == 0 => "UTC".to_owned(),
            "ZZZ" => time.zone(""),
            "Z" if time.offset == 0 => "Z".to_owned(),
            "Z" => time.zone(":"),
            other => return Err(Fault::new(format!("{other:?} stands for no part of a time; put text into '…'"))),
        });
        rest = &rest[end..];
    }
    Ok(out.into())
}
