//! Whose tables are adopted: an agent with another database, or one that has lost its own, would remove all VIPs.

use std::path::Path;

use lb_common::{
    tables::{
        meta::Meta,
        names,
        vip::{ECHO_SERVICE, Vip4Bucket, Vip6Bucket},
    },
    vip_table::edit,
};
use lb_model::vip::VipKey;

use super::{
    adopt,
    mapped::Mapped,
    pinned_tables::{PinnedTables, read_meta},
    pins::Pins,
};
use crate::{
    error::DataplaneError,
    options::Claim,
    vip_key::{self, VipTableKey},
};

/// VIPs that a message names.
const NAMED: usize = 5;

/// The VIPs of pinned tables; their form is the same in both layouts.
pub(crate) fn vips_of(tables: &PinnedTables<'_>) -> Result<Vec<VipKey>, DataplaneError> {
    let buckets = tables.sizes.vip_buckets;
    let v4 = Mapped::<Vip4Bucket>::new(names::VIPS4, tables.get(names::VIPS4)?, buckets)?;
    let v6 = Mapped::<Vip6Bucket>::new(names::VIPS6, tables.get(names::VIPS6)?, buckets)?;
    let v4 = edit::vips4(v4.shared()).map(|(key, service)| (VipTableKey::V4(key), service));
    let v6 = edit::vips6(v6.shared()).map(|(key, service)| (VipTableKey::V6(key), service));
    let mut vips: Vec<VipKey> = v4
        .chain(v6)
        .filter(|(_, service)| *service != ECHO_SERVICE)
        .filter_map(|(key, _)| vip_key::vip_of(&key))
        .collect();
    vips.sort_unstable();
    Ok(vips)
}

/// The VIPs of the tables that are pinned in a folder, for people; none if there are no tables.
///
/// # Errors
/// [`DataplaneError`] if there are tables that cannot be read.
pub fn pinned_vips(folder: &Path) -> Result<Vec<VipKey>, DataplaneError> {
    let Some(active) = adopt::find(&Pins::new(folder))? else {
        return Ok(Vec::new());
    };
    let (layout, _) = read_meta(&active.folder)?;
    vips_of(&PinnedTables::open(&active.folder, layout)?)
}

/// Checks that an agent may go on with tables that hold these VIPs.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn check(claim: &Claim, meta: &Meta, found: &[VipKey]) -> Result<(), String> {
    if claim.take_over || found.is_empty() || meta.state == claim.state {
        return Ok(());
    }
    let is_foreign = meta.state != 0;
    let lost: Vec<&VipKey> = found
        .iter()
        .filter(|vip| !claim.vips.contains(vip))
        .collect();
    let (problem, vips) = match (claim.is_empty, &lost[..]) {
        // An earlier build made the tables, or the configuration file has all that they hold.
        (false, _) if !is_foreign => return Ok(()),
        (true, []) => return Ok(()),
        (true, lost) => (
            "the database of this agent is empty: starting would remove them",
            lost.to_vec(),
        ),
        (false, _) => (
            "they belong to another state directory: starting would replace them by the VIPs of this one",
            found.iter().collect(),
        ),
    };
    Err(format!(
        "they hold {}, and {problem}. Start the agent with the state directory that they belong to (--state), or restore \
         it; or give this agent a folder of pins of its own (--pins); or say that it is to go on with these tables all \
         the same (--take-over). The tables were not changed and packets still flow",
        named(&vips)
    ))
}

/// `2 VIPs (10.0.0.1:80/tcp, 10.0.0.2:80/tcp)`.
fn named(vips: &[&VipKey]) -> String {
    let first: Vec<String> = vips.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = if vips.len() > NAMED { ", ..." } else { "" };
    let plural = if vips.len() == 1 { "" } else { "s" };
    format!("{} VIP{plural} ({}{rest})", vips.len(), first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vips(count: u8) -> Vec<VipKey> {
        (1..=count)
            .map(|number| format!("10.0.0.{number}:80/tcp").parse().unwrap())
            .collect()
    }

    fn claim(state: u64, stored: u8, file: u8) -> Claim {
        Claim {
            state,
            is_empty: stored == 0,
            vips: vips(stored.max(file)),
            take_over: false,
        }
    }

    #[test]
    fn only_the_own_tables_are_adopted() {
        // Id of the tables, id of the database, VIPs in the tables, in the database, in the file; whether it is refused.
        for (tables, state, found, stored, file, refused) in [
            (7, 7, 3, 3, 0, false),
            // The last VIP was deleted when the agent was killed.
            (7, 7, 1, 0, 0, false),
            (7, 8, 0, 0, 0, false),
            (7, 8, 3, 0, 0, true),
            (7, 8, 3, 0, 2, true),
            (7, 8, 3, 0, 3, false),
            (7, 8, 3, 3, 0, true),
            (7, 8, 3, 5, 0, true),
            // Tables of an earlier build.
            (0, 8, 3, 0, 0, true),
            (0, 8, 3, 0, 3, false),
            (0, 8, 3, 2, 0, false),
        ] {
            let case = format!("{tables} {state} {found} {stored} {file}");
            let meta = Meta {
                state: tables,
                ..Meta::default()
            };
            let mut claim = claim(state, stored, file);
            let checked = check(&claim, &meta, &vips(found));
            assert_eq!(checked.is_err(), refused, "{case}: {checked:?}");
            if let Err(error) = checked {
                for word in ["--take-over", "--state", "10.0.0.", "still flow"] {
                    assert!(error.contains(word), "{case}: {error}");
                }
            }
            claim.take_over = true;
            assert_eq!(check(&claim, &meta, &vips(found)), Ok(()), "{case}");
        }
    }

    #[test]
    fn a_message_names_a_few_vips() {
        let all = vips(7);
        let all: Vec<&VipKey> = all.iter().collect();
        assert_eq!(named(&all[..1]), "1 VIP (10.0.0.1:80/tcp)");
        let text = named(&all);
        assert!(
            text.starts_with("7 VIPs (") && text.ends_with("10.0.0.5:80/tcp, ...)"),
            "{text}"
        );
    }
}
