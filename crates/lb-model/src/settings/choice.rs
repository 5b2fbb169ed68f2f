//! [`choice!`](crate::choice!): enumerations.

/// Declares an enumeration that is a type of settings. Each variant has a name in text and a help; the default comes
/// after the name of the enumeration.
///
/// ```
/// lb_model::choice! {
///     /// How a probe's packets reach a real.
///     pub enum Via = Direct {
///         /// To the real's own address.
///         Direct = "direct",
///         /// To the VIP's address, encapsulated as clients' packets are.
///         Tunnel = "tunnel",
///     }
/// }
/// assert_eq!("tunnel".parse(), Ok(Via::Tunnel));
/// ```
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident = $default:ident {
            $( $(#[doc = $help:expr])* $variant:ident = $text:literal $(| $alias:literal)* , )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $name {
            $( $(#[doc = $help])* $variant, )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name::$default
            }
        }

        impl $name {
            /// All choices.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The names of all choices with their help.
            pub const NAMES: &'static [(&'static str, &'static str)] =
                &[$(($text, $crate::settings::trimmed(concat!($($help, " "),*)))),*];

            /// Returns the name in files, in the API and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text $(| $alias)* => Ok($name::$variant),)*
                    _ => Err($crate::settings::one_of($name::NAMES)),
                }
            }
        }

        impl $crate::settings::SettingType for $name {
            type Bound = ();

            fn describe() -> $crate::settings::Type {
                $crate::settings::Type::Choice($name::NAMES)
            }

            fn from_json(value: &$crate::settings::Value) -> Result<Self, $crate::settings::FieldError> {
                let text = $crate::settings::plain(value);
                text.parse().map_err(|advice: String| $crate::settings::FieldError::new("", &text, advice))
            }

            fn to_json(&self) -> $crate::settings::Value {
                $crate::settings::Value::String(self.name().to_owned())
            }

            fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
                true
            }

            fn bound_text((): &()) -> String {
                String::new()
            }
        }

        $crate::serde_by_json!($name);
    };
}

/// Returns the advice for a value that is none of the choices.
#[must_use]
pub fn one_of(choices: &[(&str, &str)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    match names.split_last() {
        None => "unknown".to_owned(),
        Some((last, [])) => format!("unknown, give {last}"),
        Some((last, rest)) => format!("unknown, give {} or {last}", rest.join(", ")),
    }
}

/// Removes white space from both ends of a text.
#[must_use]
pub const fn trimmed(text: &'static str) -> &'static str {
    text.trim_ascii()
}
