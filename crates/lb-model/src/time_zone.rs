//! Time zones of schedules.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use jiff::{
    Timestamp,
    tz::{self, TimeZoneDatabase},
};

use crate::settings::{FieldError, SettingType, Type, Value, plain};

const UTC: &str = "UTC";

/// A time zone of the IANA database, such as `Europe/Berlin`. Two are equal if they have the same name.
///
/// Its rules are those of the machine's database (`/usr/share/zoneinfo`, or `TZDIR`), or of the one that is compiled in if
/// the machine's does not have the name.
#[derive(Clone, Debug)]
pub struct TimeZone {
    name: String,
    rules: tz::TimeZone,
}

impl TimeZone {
    /// Coordinated universal time, the default.
    #[must_use]
    pub fn utc() -> Self {
        TimeZone {
            name: UTC.to_owned(),
            rules: tz::TimeZone::UTC,
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the seconds by which the zone's clocks are ahead of UTC at this time since the Unix epoch. It depends on the
    /// zone and the time alone.
    #[must_use]
    pub fn offset_at(&self, unix: Duration) -> i32 {
        let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
        let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        self.rules.to_offset(at).seconds()
    }

    /// Takes the rules that the machine's database has now: governments change them at short notice, and a controller runs
    /// for months. The database itself is read again after some minutes at the earliest, so this can be called often.
    pub fn refresh(&mut self) {
        // A zone that the databases have lost keeps its rules.
        if self.name != UTC
            && let Some(rules) = find(&self.name)
        {
            self.rules = rules;
        }
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::utc()
    }
}

impl PartialEq for TimeZone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TimeZone {}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The rules of a zone. Some distributions leave out names that the compiled-in database has, such as `US/Pacific`.
fn find(name: &str) -> Option<tz::TimeZone> {
    let system = tz::db().get(name);
    system
        .or_else(|_| TimeZoneDatabase::bundled().get(name))
        .ok()
}

impl FromStr for TimeZone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let advice = || {
            "give a name of the IANA time zone database, such as Europe/Berlin, or UTC".to_owned()
        };
        let rules = find(text).ok_or_else(advice)?;
        // Names are found in any case, and are kept as the database writes them.
        let name = rules.iana_name().ok_or_else(advice)?.to_owned();
        Ok(TimeZone { name, rules })
    }
}

impl SettingType for TimeZone {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("name of a time zone")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = plain(value);
        text.parse()
            .map_err(|advice: String| FieldError::new("", &text, advice))
    }

    fn to_json(&self) -> Value {
        Value::String(self.name.clone())
    }

    fn is_within(&self, _range: &RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        name.parse().unwrap()
    }

    #[test]
    fn offsets_follow_daylight_saving_time() {
        // 2026-03-29 and 2026-10-25, 01:00 UTC: the clocks of Berlin change.
        let (spring, autumn) = (1_774_746_000, 1_792_890_000);
        let berlin = zone("Europe/Berlin");
        for (zone, at, hours) in [
            (&berlin, spring - 1, 1),
            (&berlin, spring, 2),
            (&berlin, autumn - 1, 2),
            (&berlin, autumn, 1),
            (&berlin, 0, 1),
            (&zone("UTC"), spring, 0),
            (&zone("America/New_York"), spring, -4),
            // Its rules come from the compiled-in database where the machine's has no old names.
            (&zone("US/Pacific"), autumn, -7),
        ] {
            let offset = zone.offset_at(Duration::from_secs(at));
            assert_eq!(offset, hours * 3_600, "{zone} {at}");
        }
        // Half hours, and any time at all.
        assert_eq!(zone("Asia/Kolkata").offset_at(Duration::MAX), 19_800);
    }

    #[test]
    fn both_databases_have_the_rules() {
        let at = Duration::from_secs(1_774_746_000);
        let bundled = TimeZone {
            name: "Europe/Berlin".to_owned(),
            rules: TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap(),
        };
        let mut refreshed = bundled.clone();
        refreshed.refresh();
        assert_eq!(refreshed, bundled);
        assert_eq!(refreshed.offset_at(at), bundled.offset_at(at));
        let mut lost = TimeZone {
            name: "Europe/Atlantis".to_owned(),
            ..bundled
        };
        lost.refresh();
        assert_eq!(lost.offset_at(at), 7_200);
    }

    #[test]
    fn names_are_those_of_the_database() {
        assert_eq!(zone("europe/berlin").name(), "Europe/Berlin");
        assert_eq!(zone("UTC"), TimeZone::default());
        for text in ["", "Berlin", "CEST", "+02:00", "../etc/passwd", "Europe/"] {
            let advice = text.parse::<TimeZone>().expect_err(text);
            assert!(advice.contains("give a name"), "{advice}");
        }
    }
}
