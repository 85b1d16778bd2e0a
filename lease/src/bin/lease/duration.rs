//! Durations as people write them.

use std::time::Duration;

/// Parses `10s`, `1m30s`, `250ms`, or a number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{}` is not a duration such as 10s, 1m30s or 250ms",
            text.escape_debug()
        )
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "" if rest == text && behind.is_empty() => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = behind;
    }
    Ok(total)
}

/// Formats a duration with two units at most, as in `1h 5m` or `3.2s`.
pub(crate) fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.subsec_millis() > 0 => format!("{}ms", duration.subsec_millis()),
        0 => "0s".to_owned(),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("10s"), Ok(10.0));
        assert_eq!(seconds("10"), Ok(10.0));
        assert_eq!(seconds("1m30s"), Ok(90.0));
        assert_eq!(seconds("250ms"), Ok(0.25));
        assert_eq!(seconds("1.5h"), Ok(5400.0));
        assert_eq!(seconds("0s"), Ok(0.0));
        for bad in [
            "",
            "s",
            "1x",
            "-1s",
            "1m30",
            "1 m",
            "1e300h",
            "1..2s",
            "99999999999999999999h",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_formatted() {
        for (text, shown) in [
            ("250ms", "250ms"),
            ("3.21s", "3.2s"),
            ("65s", "1m 5s"),
            ("2h5m", "2h 5m"),
            ("50h", "2d 2h"),
        ] {
            assert_eq!(format(parse(text).unwrap()), shown);
        }
    }
}
