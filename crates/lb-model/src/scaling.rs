//! How a pool scales: floors, targets and the limits of the scaling law.

use std::{fmt, str::FromStr, time::Duration};

use crate::{
    settings::{Auto, FieldError, SettingType, Type, Value, plain},
    time_zone::TimeZone,
};

const HOUR: Duration = seconds(3_600);
const DAY: Duration = seconds(86_400);
/// The most instances that a pool may have.
pub const MAX_INSTANCES: u32 = 10_000;
/// Minutes of a day.
const MINUTES: u16 = 24 * 60;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

crate::choice! {
    /// What asks for instances. The strictest policy decides.
    pub enum ScalingPolicy = Utilisation {
        /// Offered load over learned capacity, against `utilisation`.
        Utilisation = "utilisation",
        /// Requests over the last `requests_over`, against `requests` per instance.
        Requests = "requests",
        /// Connections over the instances' limits, against `connections`.
        Connections = "connections",
        /// Used memory over the instances' limits, against `memory`.
        Memory = "memory",
        /// A guard: the 95th percentile of response times above `latency` adds a step.
        Latency = "latency",
    }
}

crate::choice! {
    /// A day of the week.
    pub enum Weekday = Monday {
        /// Monday.
        Monday = "mon" | "monday",
        /// Tuesday.
        Tuesday = "tue" | "tuesday",
        /// Wednesday.
        Wednesday = "wed" | "wednesday",
        /// Thursday.
        Thursday = "thu" | "thursday",
        /// Friday.
        Friday = "fri" | "friday",
        /// Saturday.
        Saturday = "sat" | "saturday",
        /// Sunday.
        Sunday = "sun" | "sunday",
    }
}

/// A time of day in whole minutes, written `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Returns the time of day that is this many minutes after midnight; whole days do not count.
    #[must_use]
    pub const fn from_minutes(minutes: u16) -> Self {
        TimeOfDay(minutes % MINUTES)
    }

    /// Returns the minutes since midnight.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |part: &str, below: u16| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|value| digits && *value < below)
        };
        text.split_once(':')
            .and_then(|(hours, minutes)| Some((read(hours, 24)?, read(minutes, 60)?)))
            .map(|(hours, minutes): (u16, u16)| TimeOfDay(hours * 60 + minutes))
            .ok_or_else(|| "give a time of day from 00:00 to 23:59".to_owned())
    }
}

impl SettingType for TimeOfDay {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("`HH:MM`")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = plain(value);
        text.parse()
            .map_err(|advice: String| FieldError::new("", &text, advice))
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }

    fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

crate::settings! {
    /// A time of the week in which a pool has more instances at least.
    #[derive(Eq)]
    pub struct ScheduleWindow {
        /// Days on which the window begins. Without them, every day.
        days: Vec<Weekday> = Vec::new();
        /// When it begins, by the clocks of the pool's `time_zone`.
        from: TimeOfDay;
        /// When it ends; on the next day if that is not after `from`.
        to: TimeOfDay;
        /// Instances at least while it lasts.
        min: u32;
    }
    validate(window) {
        crate::settings::check_range("min", &window.min, &(1..=MAX_INSTANCES))
    }
}

impl ScheduleWindow {
    /// Returns whether the window is open at a time of a day.
    #[must_use]
    pub fn is_open(&self, day: Weekday, at: TimeOfDay) -> bool {
        let begins_on = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        if self.from < self.to {
            begins_on(day) && (self.from..self.to).contains(&at)
        } else {
            let position = Weekday::ALL.iter().position(|one| *one == day);
            let before = position.unwrap_or(0) + Weekday::ALL.len() - 1;
            let yesterday = Weekday::ALL[before % Weekday::ALL.len()];
            (begins_on(day) && at >= self.from) || (begins_on(yesterday) && at < self.to)
        }
    }
}

crate::settings! {
    /// How a pool scales. Fractions are relative to 1. `docs/scaling.md` describes how to operate it.
    pub struct Scaling {
        /// Instances at least.
        min: u32 = 1, 0..=MAX_INSTANCES;
        /// Instances at most.
        max: u32 = 10, 0..=MAX_INSTANCES;
        /// Warm instances: created or paused, not serving.
        spare: u32 = 0, 0..=1_000;
        /// Wanted utilisation: offered load over learned capacity.
        utilisation: f64 = 0.70, 0.05..=0.95;
        /// Wanted requests of an instance over `requests_over`. Without it, requests do not count.
        requests: Option<f64> = None, 0.001..=1e9;
        /// Time over which `requests` are counted, in whole seconds.
        requests_over: Duration = seconds(120), seconds(1)..=HOUR;
        /// Wanted fraction of the connections that instances accept.
        connections: f64 = 0.65, 0.05..=0.95;
        /// Wanted fraction of the instances' memory.
        memory: f64 = 0.85, 0.10..=0.95;
        /// Objective of the 95th percentile of response times. Without it, response times do not count.
        latency: Option<Duration> = None, Duration::from_millis(1)..=HOUR;
        /// Times of the week with more instances at least.
        schedule: Vec<ScheduleWindow> = Vec::new();
        /// The only numbers of instances that are allowed, as clusters demand. Without it, all are.
        sizes: Vec<u32> = Vec::new();
        /// The policies that count. Without it, all that have readings.
        policies: Vec<ScalingPolicy> = Vec::new();

        /// Time zone of the `schedule`, by its name in the IANA database.
        @expert time_zone: TimeZone = TimeZone::utc();
        /// Time between two decisions; at least three periods of steering. A surge is answered at once.
        @expert period: Duration = seconds(15), seconds(1)..=HOUR;
        /// Time over which the offered load is averaged, in whole seconds.
        @expert load_over: Duration = seconds(60), seconds(2)..=HOUR;
        /// Time over which a surge is looked for, in whole seconds.
        @expert surge_over: Duration = seconds(10), seconds(1)..=HOUR;
        /// The mean over `surge_over`, as a multiple of that over `load_over`, from which on it counts instead.
        @expert surge: f64 = 1.2, 1.01..=100.0;
        /// The pool grows if it needs this multiple of its instances.
        @expert out_above: f64 = 1.05, 1.0..=2.0;
        /// The pool shrinks if the rest has this multiple of the highest need of `in_after`.
        @expert in_below: f64 = 0.98, 0.1..=1.0;
        /// Instances that may start at a time, as a multiple of those that serve ...
        @expert out_factor: f64 = 1.0, 0.01..=1_000.0;
        /// ... and if that is less, this many.
        @expert out_least: u32 = 4, 1..=MAX_INSTANCES;
        /// Time over which the need must be low before the pool shrinks; at least three times start-up and drain.
        @expert in_after: Duration = seconds(300), seconds(10)..=DAY;
        /// Time between two steps in which the pool shrinks.
        @expert in_every: Duration = seconds(15), seconds(1)..=DAY;
        /// The fraction of the instances that are drained in such a step; at least one is.
        @expert in_step: f64 = 0.10, 0.001..=1.0;
        /// Time from the order of an instance until it serves; `auto` measures it.
        @expert start_up: Auto<Duration> = Auto(None), Duration::ZERO..=HOUR;
        /// Fraction of dead instances above which nothing is drained or killed.
        @expert max_dead: f64 = 0.30, 0.0..=1.0;
        /// Utilisation from which on an instance is critically loaded. What steering learns of it then is not used.
        @expert critical: f64 = 0.90, 0.1..=1.0;
        /// Periods for which a guard must see trouble before it adds a step.
        @expert guard_periods: u32 = 3, 1..=1_000;
        /// The step that a guard adds, as a fraction of the instances; at least one.
        @expert guard_step: f64 = 0.10, 0.001..=1.0;
        /// Mean utilisation below which the guard of latency adds nothing: more instances would not help.
        @expert guard_utilisation: f64 = 0.50, 0.0..=1.0;
        /// Age from which on a reading is stale.
        @expert stale_after: Duration = seconds(45), seconds(1)..=DAY;
        /// Cost of ending a connection with a session, in connections without one.
        @expert session_cost: f64 = 3.0, 1.0..=1_000.0;
        /// Time for which a drained instance's connections may end by themselves, unless they live for less.
        @expert drain_natural: Duration = seconds(300), Duration::ZERO..=DAY;
        /// Time after which a drained instance is stopped, whatever connections it has.
        @expert drain_deadline: Duration = seconds(900), Duration::ZERO..=seconds(30 * 86_400);
        /// Fraction of the pool that may be relaunched at a time; at least one instance may.
        @expert relaunch: f64 = 0.20, 0.001..=1.0;
        /// Wait before the first relaunch of an instance; it doubles each time ...
        @expert relaunch_first: Duration = seconds(1), Duration::from_millis(10)..=HOUR;
        /// ... up to this.
        @expert relaunch_most: Duration = seconds(60), Duration::from_millis(10)..=DAY;
        /// Time after which a relaunched instance that lives counts as mended.
        @expert relaunch_reset: Duration = seconds(600), seconds(1)..=DAY;
        /// Megabits a second, received or sent, at which an instance's network is fully used. Without it, a source of load says
        /// how much is used, or nothing does.
        @expert bandwidth: Option<f64> = None, 0.1..=1_000_000.0;
        /// Score below which an instance is lowly utilised (LU); `auto` follows the pool.
        @expert low: Auto<f64> = Auto(None), 0.0..=1.0;
        /// Score from which on an instance is highly utilised (HU); `auto` follows the pool.
        @expert high: Auto<f64> = Auto(None), 0.0..=1.0;
    }
    validate(scaling) {
        let scaling: &Scaling = scaling;
        let refuse = |field: &str, value: &dyn fmt::Display, advice: String| {
            Err(FieldError::new(field, value, advice))
        };
        let (min, max) = (scaling.min, scaling.max);
        if max < min {
            return refuse("max", &max, format!("below min, give {min} or more"));
        }
        for (position, window) in scaling.schedule.iter().enumerate() {
            if let Err(error) = crate::settings::Settings::validate(window) {
                return Err(error.within(format!("schedule[{position}]")));
            }
            if window.min > max {
                let field = format!("schedule[{position}].min");
                return refuse(&field, &window.min, format!("above max, give {max} or less"));
            }
        }
        if !scaling.sizes.is_sorted_by(|a, b| a < b) {
            let sizes = format!("{:?}", scaling.sizes);
            return refuse("sizes", &sizes, "give each once, the smallest first".to_owned());
        }
        if !scaling.sizes.is_empty() && !scaling.sizes.iter().any(|size| (min..=max).contains(size)) {
            let sizes = format!("{:?}", scaling.sizes);
            return refuse("sizes", &sizes, format!("give one from min ({min}) to max ({max}) at least"));
        }
        for (name, time) in [
            ("requests_over", scaling.requests_over),
            ("load_over", scaling.load_over),
            ("surge_over", scaling.surge_over),
        ] {
            if time.subsec_nanos() > 0 {
                return refuse(name, &crate::duration::format(time), "give whole seconds".to_owned());
            }
        }
        for (field, value, other, least) in [
            ("load_over", scaling.load_over, "surge_over", scaling.surge_over),
            ("in_after", scaling.in_after, "load_over", scaling.load_over),
            ("relaunch_most", scaling.relaunch_most, "relaunch_first", scaling.relaunch_first),
            ("drain_deadline", scaling.drain_deadline, "drain_natural", scaling.drain_natural),
        ] {
            if value < least {
                let least = crate::duration::format(least);
                let value = crate::duration::format(value);
                return refuse(field, &value, format!("below {other}, give {least} or more"));
            }
        }
        if let (Some(low), Some(high)) = (scaling.low.0, scaling.high.0) && high < low {
            return refuse("high", &high, format!("below low, give {low} or more"));
        }
        Ok(())
    }
}

impl Default for Scaling {
    fn default() -> Self {
        crate::settings::defaults()
    }
}

impl Scaling {
    /// Returns whether a policy counts. Those without a target of their own do not.
    #[must_use]
    pub fn has_policy(&self, policy: ScalingPolicy) -> bool {
        let has_target = match policy {
            ScalingPolicy::Requests => self.requests.is_some(),
            ScalingPolicy::Latency => self.latency.is_some(),
            _ => true,
        };
        has_target && (self.policies.is_empty() || self.policies.contains(&policy))
    }

    /// Returns the smallest allowed number of instances that is not below `wanted`, or else the largest one. It is
    /// never above `max`.
    #[must_use]
    pub fn size_from(&self, wanted: u32) -> u32 {
        let wanted = wanted.min(self.max);
        let mut sizes = self.sizes.iter().copied().filter(|size| *size <= self.max);
        if self.sizes.is_empty() {
            wanted
        } else {
            let largest = sizes.clone().next_back().unwrap_or(self.max);
            sizes.find(|size| *size >= wanted).unwrap_or(largest)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Level, Settings as _};

    fn read(value: Value) -> Result<Scaling, FieldError> {
        Scaling::from_json(&value)
    }

    #[test]
    fn operators_need_twelve_settings() {
        let fields = Scaling::fields();
        let plain = fields.iter().filter(|field| field.level == Level::Operator);
        assert_eq!(plain.count(), 12);
    }

    #[test]
    fn what_is_written_is_read() {
        let scaling = read(json!({
            "min": 2, "max": 9, "sizes": [3, 5, 7], "requests": 1200, "policies": ["requests", "latency"],
            "latency": "200ms", "low": 0.2, "time_zone": "europe/berlin",
            "schedule": [{ "days": ["mon", "friday"], "from": "07:30", "to": "19:00", "min": 5 }],
        }))
        .unwrap();
        assert_eq!(scaling.schedule[0].days, [Weekday::Monday, Weekday::Friday]);
        assert_eq!(scaling.schedule[0].from.minutes(), 7 * 60 + 30);
        assert_eq!(scaling.low, Auto(Some(0.2)));
        let map = Value::Object(scaling.to_map());
        assert_eq!(map["schedule"][0]["from"], "07:30");
        assert_eq!(map["high"], "auto");
        assert_eq!(map["time_zone"], "Europe/Berlin");
        assert_eq!(read(map).unwrap(), scaling);
        assert_eq!(read(json!({})).unwrap(), Scaling::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (value, field) in [
            (json!({ "min": 5, "max": 4 }), "max"),
            (json!({ "min": 20_000 }), "min"),
            (json!({ "utilisation": 1.5 }), "utilisation"),
            (json!({ "sizes": [5, 3] }), "sizes"),
            (json!({ "sizes": [3, 3] }), "sizes"),
            (json!({ "sizes": [20] }), "sizes"),
            (json!({ "policies": ["luck"] }), "policies[0]"),
            (json!({ "load_over": "5s" }), "load_over"),
            (json!({ "surge_over": "1s500ms" }), "surge_over"),
            (json!({ "in_after": "30s" }), "in_after"),
            (json!({ "relaunch_first": "2m" }), "relaunch_most"),
            (json!({ "drain_deadline": "1s" }), "drain_deadline"),
            (json!({ "low": 0.8, "high": 0.3 }), "high"),
            (json!({ "time_zone": "Berlin" }), "time_zone"),
            (
                json!({ "schedule": [{ "from": "24:00", "to": "07:00", "min": 2 }] }),
                "schedule[0].from",
            ),
            (
                json!({ "schedule": [{ "from": "08:00", "to": "09:00", "min": 11 }] }),
                "schedule[0].min",
            ),
            (
                json!({ "schedule": [{ "from": "08:00", "to": "09:00", "min": 0 }] }),
                "schedule[0].min",
            ),
        ] {
            let error = read(value).expect_err(field);
            assert_eq!(error.field, field, "{error}");
            assert!(error.advice.contains("give"), "{error}");
        }
    }

    #[test]
    fn a_window_may_pass_midnight() {
        let window = |days: Vec<Weekday>, from: &str, to: &str| ScheduleWindow {
            days,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            min: 2,
        };
        let at = |text: &str| text.parse::<TimeOfDay>().unwrap();
        let day = window(vec![Weekday::Monday], "08:00", "18:00");
        assert!(day.is_open(Weekday::Monday, at("08:00")));
        assert!(!day.is_open(Weekday::Monday, at("18:00")));
        assert!(!day.is_open(Weekday::Tuesday, at("09:00")));
        let night = window(vec![Weekday::Sunday], "22:00", "06:00");
        assert!(night.is_open(Weekday::Sunday, at("23:00")));
        assert!(night.is_open(Weekday::Monday, at("05:59")));
        assert!(!night.is_open(Weekday::Monday, at("06:00")));
        assert!(!night.is_open(Weekday::Sunday, at("05:00")));
        let always = window(Vec::new(), "10:00", "10:00");
        assert!(always.is_open(Weekday::Friday, at("00:00")));
    }

    #[test]
    fn sizes_are_rounded_up() {
        let scaling = read(json!({ "min": 3, "max": 8, "sizes": [3, 5, 7, 9] })).unwrap();
        let sizes = [0, 3, 4, 6, 8, 20].map(|wanted| scaling.size_from(wanted));
        assert_eq!(sizes, [3, 3, 5, 7, 7, 7]);
        assert_eq!(Scaling::default().size_from(20), 10);
    }

    #[test]
    fn a_time_of_day_has_five_characters() {
        for text in ["8:00", "08:0", "08-00", "+8:00", "24:00", "12:60", ""] {
            text.parse::<TimeOfDay>().expect_err(text);
        }
        assert_eq!(TimeOfDay::from_minutes(1_441).to_string(), "00:01");
    }

    /// `UPDATE_REFERENCE=1 cargo test -p lb-model scaling` writes the table anew.
    #[test]
    fn the_page_has_all_settings() {
        let fields = Scaling::fields();
        let of = |level| {
            let fields = fields.iter().filter(|field| field.level == level);
            crate::settings::reference_table(fields)
        };
        let settings = format!(
            "{}\nAn entry of `schedule`:\n\n{}\nPolicies:\n\n{}\nFor experts; the defaults fit unless a \
             measurement says otherwise:\n\n{}",
            of(Level::Operator),
            crate::settings::reference_table(&ScheduleWindow::fields()),
            ScalingPolicy::NAMES
                .iter()
                .map(|(name, help)| format!(
                    "- `{name}`: {}\n",
                    help.split_whitespace().collect::<Vec<_>>().join(" ")
                ))
                .collect::<String>(),
            of(Level::Expert),
        );
        crate::settings::keep_page("docs/scaling.md", "scaling", &settings);
    }
}
