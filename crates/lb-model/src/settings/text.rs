//! [`text_setting!`](crate::text_setting!): types that are written as text.

use std::net::{IpAddr, SocketAddr};

/// Implements [`SettingType`](crate::settings::SettingType) for a type with `FromStr` and `Display`:
/// `text_setting!(IpAddr, "IP address")`. A third argument replaces the error of `FromStr` as advice.
#[macro_export]
macro_rules! text_setting {
    ($type:ty, $form:literal) => {
        $crate::text_setting!(@impl $type, $form, |error| error.to_string());
    };
    ($type:ty, $form:literal, $advice:literal) => {
        $crate::text_setting!(@impl $type, $form, |_| $advice.to_owned());
    };
    (@impl $type:ty, $form:literal, $advice:expr) => {
        impl $crate::settings::SettingType for $type {
            type Bound = ();

            fn describe() -> $crate::settings::Type {
                $crate::settings::Type::Text($form)
            }

            fn from_json(
                value: &$crate::settings::Value,
            ) -> Result<Self, $crate::settings::FieldError> {
                let text = <String as $crate::settings::SettingType>::from_json(value)?;
                text.parse::<$type>().map_err(|error| {
                    let advice: fn(<$type as std::str::FromStr>::Err) -> String = $advice;
                    $crate::settings::FieldError::new("", &text, advice(error))
                })
            }

            fn to_json(&self) -> $crate::settings::Value {
                $crate::settings::Value::String(self.to_string())
            }

            fn is_within(&self, _range: &std::ops::RangeInclusive<()>) -> bool {
                true
            }

            fn bound_text((): &()) -> String {
                String::new()
            }
        }
    };
}

text_setting!(IpAddr, "IP address", "give an IPv4 or IPv6 address");
text_setting!(
    SocketAddr,
    "ADDRESS:PORT",
    "give ADDRESS:PORT, such as 127.0.0.1:9464"
);
