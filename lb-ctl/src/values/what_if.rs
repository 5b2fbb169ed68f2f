//! `ADDRESS=WEIGHT` for `lbctl ring --what-if`.

use lb_model::vip::RealId;
use lb_proto::v1;

/// Reads an address with a weight. The agent checks the range of the weight.
///
/// # Errors
/// Returns what is wrong, in words for the operator.
pub fn read(text: &str) -> Result<v1::WhatIf, String> {
    let (address, weight) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}`: write ADDRESS=WEIGHT, for example 10.1.0.2=50"))?;
    let address: RealId = address
        .parse()
        .map_err(|error| format!("`{address}` is not a real: {error}"))?;
    let weight = weight
        .parse()
        .map_err(|error| format!("`{weight}` is not a weight: {error}"))?;
    Ok(v1::WhatIf {
        address: address.to_string(),
        weight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_address_and_a_weight() {
        for (text, address, weight) in [
            ("10.1.0.2=50", "10.1.0.2", 50),
            ("2001:db8:0::1=0", "2001:db8::1", 0),
            ("10.1.0.2=70000", "10.1.0.2", 70_000),
        ] {
            assert_eq!(
                read(text),
                Ok(v1::WhatIf {
                    address: address.to_owned(),
                    weight
                })
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("10.1.0.2", "write ADDRESS=WEIGHT"),
            ("10.1.0=1", "`10.1.0` is not a real"),
            ("10.1.0.2=", "`` is not a weight"),
            ("10.1.0.2=-1", "`-1` is not a weight"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
