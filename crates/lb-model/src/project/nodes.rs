//! The pools that the nodes of load balancers are in.

use crate::pool::PoolName;

/// What their names begin with; the id of the load balancer follows.
const PREFIX: &str = "lb-";

/// The pool of the nodes of the load balancer with this id.
///
/// # Panics
/// Never: the name is short, and of letters and digits.
#[must_use]
pub fn pool_of_nodes(balancer: u64) -> PoolName {
    let name = format!("{PREFIX}{balancer}").parse();
    name.expect("a short name of letters and digits")
}

/// Whether pools of this name are those of load balancers.
#[must_use]
pub fn is_pool_of_nodes(name: &PoolName) -> bool {
    let number = name.as_str().strip_prefix(PREFIX);
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_of_nodes_have_names_of_their_own() {
        assert!(is_pool_of_nodes(&pool_of_nodes(u64::MAX)));
        for other in ["lb", "lb-1a", "web-1", "lb-web"] {
            assert!(!is_pool_of_nodes(&other.parse().unwrap()), "{other}");
        }
    }
}
