//! HTTP statuses of a healthy answer.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Ranges of statuses, written `200-299,401`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    /// Success, 200 to 299. Redirects do not count, because they are not followed.
    fn default() -> Self {
        Statuses(vec![200..=299])
    }
}

impl Statuses {
    /// Whether the status is in one of the ranges.
    #[must_use]
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(formatter, "{comma}{first}")?;
            } else {
                write!(formatter, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} are no statuses; write numbers of 100 to 599 and ranges, as 200-299,401"
            )
        };
        let number = |text: &str| {
            let number: u16 = text.trim().parse().map_err(|_| wrong())?;
            if (100..=599).contains(&number) {
                Ok(number)
            } else {
                Err(wrong())
            }
        };
        text.split(',')
            .map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let range = number(first)?..=number(last)?;
                if range.is_empty() {
                    return Err(wrong());
                }
                Ok(range)
            })
            .collect::<Result<_, _>>()
            .map(Statuses)
    }
}

lb_model::text_setting!(Statuses, "statuses such as `200-299,401`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, good, bad) in [
            ("200-299", 250, 300),
            ("204", 204, 200),
            ("200,301-302,401", 301, 303),
        ] {
            let statuses: Statuses = text.parse().unwrap();
            assert_eq!(statuses.to_string(), text);
            assert!(statuses.contain(good) && !statuses.contain(bad), "{text}");
        }
        assert_eq!("200-299".parse(), Ok(Statuses::default()));
        for text in ["", "ok", "99", "600", "299-200", "200,", "200-"] {
            let error = text.parse::<Statuses>().expect_err(text);
            assert!(error.contains("200-299,401"), "{error}");
        }
    }
}
