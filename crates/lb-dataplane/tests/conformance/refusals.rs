//! Pairs of a VIP and a real for which there is no case, because they cannot be configured.

use lb_model::{
    component::Registry,
    intent::{Kinds, Owner, RealSpec, Vip, VipSpec, validate},
    options::{Forward, NatSource},
};

static NONE: Registry = Registry {
    family: "kind",
    key: "kind",
    kinds: &[],
};
static KINDS: Kinds = Kinds {
    probes: &NONE,
    readers: &NONE,
    controllers: &NONE,
    sheds: &NONE,
};

fn refusal(vip: &str, forward: Forward, source: NatSource, real: &str) -> Option<String> {
    let spec = VipSpec {
        forward,
        source,
        ..VipSpec::default()
    };
    let vip = Vip::new(vip.parse().unwrap(), Owner::default(), spec);
    let real = real.parse().unwrap();
    let settings = RealSpec::default();
    let checked = validate::vip(&vip, &KINDS)
        .and_then(|()| validate::real_id(&vip, real, &settings))
        .and_then(|()| validate::real_fits(&vip, real, &settings));
    checked.err().map(|error| error.to_string())
}

/// What a VIP's mode is, and the words that a refusal has; `None`: the pair is allowed, and a table has it.
type Row = (
    &'static str,
    Forward,
    NatSource,
    &'static str,
    Option<&'static str>,
);

pub fn reals_that_no_packet_could_reach_are_refused() {
    const V4: &str = "10.0.0.1:80/tcp";
    const V6: &str = "[2001:db8::1]:80/tcp";
    const SCTP: &str = "10.0.0.1:80/sctp";
    const REAL4: &str = "10.1.0.2";
    const REAL6: &str = "fd00:1::2";
    use Forward::{Gue, Ipip, L2, Nat};
    use NatSource::{Balancer, Client};
    let family = Some("family");
    let rows: &[Row] = &[
        (V4, Ipip, Balancer, REAL4, None),
        (V4, Ipip, Balancer, REAL6, None),
        (V6, Ipip, Balancer, REAL4, None),
        (V6, Ipip, Balancer, REAL6, None),
        (V4, Gue, Balancer, REAL6, None),
        (V6, Gue, Balancer, REAL4, None),
        (V4, L2, Balancer, REAL4, None),
        (V4, L2, Balancer, REAL6, family),
        (V6, L2, Balancer, REAL4, family),
        (V6, L2, Balancer, REAL6, None),
        (V4, Nat, Balancer, REAL6, None),
        (V6, Nat, Balancer, REAL4, None),
        (V4, Nat, Client, REAL4, None),
        (V4, Nat, Client, REAL6, family),
        (V6, Nat, Client, REAL4, family),
        (V6, Nat, Client, REAL6, None),
        (V4, Ipip, Client, REAL4, None),
        (SCTP, Nat, Balancer, REAL4, Some("TCP and UDP only")),
        (SCTP, Nat, Client, REAL4, Some("TCP and UDP only")),
        (SCTP, Gue, Balancer, REAL6, None),
        (
            V4,
            Ipip,
            Balancer,
            "10.1.0.2:8080",
            Some("only nat does not"),
        ),
        (
            V4,
            Gue,
            Balancer,
            "10.1.0.2:8080",
            Some("only nat does not"),
        ),
        (V4, L2, Balancer, "10.1.0.2:8080", Some("only nat does not")),
        (V4, Nat, Balancer, "10.1.0.2:8080", None),
        (V4, Nat, Balancer, "10.1.0.2:80", Some("VIP's own")),
        (V4, Ipip, Balancer, "10.0.0.1", Some("VIP's own address")),
    ];
    for (vip, forward, source, real, expected) in rows {
        let refusal = refusal(vip, *forward, *source, real);
        let agrees = match (&refusal, expected) {
            (Some(refusal), Some(words)) => refusal.contains(words),
            (refusal, expected) => refusal.is_none() && expected.is_none(),
        };
        assert!(
            agrees,
            "{vip} {forward} {source} {real}: {refusal:?}, expected {expected:?}"
        );
    }
}
