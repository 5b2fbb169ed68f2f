//! Names of load balancers in DNS, and what can be set about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use crate::{network::Network, settings::FieldError, vip::check_unicast};

/// The longest label, in bytes (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// The longest name as text without the final dot: 255 bytes on the wire (RFC 1035 section 2.3.4).
pub const MAX_DOMAIN: usize = 253;
/// The longest zone. With it every name that is made has room: `LB.PROJECT.ZONE`, and the marks of a pushed zone.
pub const MAX_ZONE: usize = 100;
/// The label in front of a name whose TXT record says who pushed the name.
pub const OWNER_LABEL: &str = "_lb-owner";
/// The label in front of the zone below which the names are listed that were pushed.
pub const NAMES_LABEL: &str = "_lb-names";
/// The most addresses of one name.
pub const MAX_ADDRESSES: usize = 256;

const _: () = assert!(OWNER_LABEL.len() + 1 + 2 * (MAX_LABEL + 1) + MAX_ZONE <= MAX_DOMAIN);
// Two digits, the owner, the label and the zone.
const _: () = assert!(3 + MAX_LABEL + 1 + NAMES_LABEL.len() + 1 + MAX_ZONE <= MAX_DOMAIN);

/// The bounds of a time to live.
const TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);
/// The bounds of a timer of secondary servers.
const TIMER: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// Why a text is no name in DNS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// A label is empty, too long, or has a character that host names do not have.
    #[error(
        "{0:?} is no label of a host name; give 1 to {MAX_LABEL} of a-z, 0-9 and -, neither beginning nor ending with -"
    )]
    Label(String),
    /// The whole name is too long.
    #[error("{0} bytes are too long for a name; give {MAX_DOMAIN} at most")]
    Length(usize),
    /// Not the name of a load balancer.
    #[error("not the name of a load balancer; it is LB.PROJECT, such as web.shop")]
    Record,
}

/// A label of a host name: 1 to 63 of `a`-`z`, `0`-`9` and `-`, neither beginning nor ending with `-` (RFC 1123
/// section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// Returns the label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map be asked with the text of a label.
impl std::borrow::Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=MAX_LABEL).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(Label(text.to_owned()))
        } else {
            Err(DomainError::Label(text.to_owned()))
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

crate::text_setting!(Label, "label of a host name");

/// The full name of a host or a zone, in lower case and without the final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

impl DomainName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part in front of `zone`, if this name is below it: `ns1` for `ns1.example.com` in `example.com`.
    #[must_use]
    pub fn below<'a>(&'a self, zone: &DomainName) -> Option<&'a str> {
        self.0.strip_suffix(&zone.0)?.strip_suffix('.')
    }
}

impl FromStr for DomainName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > MAX_DOMAIN {
            return Err(DomainError::Length(name.len()));
        }
        for label in name.split('.') {
            label.parse::<Label>()?;
        }
        Ok(DomainName(name))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

crate::text_setting!(DomainName, "name of a domain");

/// The name of a load balancer in the zone: `LB.PROJECT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName {
    /// The project.
    pub project: Label,
    /// The load balancer.
    pub balancer: Label,
}

impl RecordName {
    /// Returns the full name in this zone.
    #[must_use]
    pub fn in_zone(&self, zone: &DomainName) -> DomainName {
        DomainName(format!("{self}.{zone}"))
    }
}

impl FromStr for RecordName {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let (balancer, project) = text.split_once('.').ok_or(DomainError::Record)?;
        if project.contains('.') {
            return Err(DomainError::Record);
        }
        Ok(RecordName {
            project: project.parse()?,
            balancer: balancer.parse()?,
        })
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.balancer, self.project))
    }
}

/// The addresses of a name.
pub type Addresses = BTreeSet<IpAddr>;

/// Checks the addresses of a name.
///
/// # Errors
/// Returns the address that no client could use, or the number if there are too many.
pub fn check_addresses(addresses: &Addresses) -> Result<(), FieldError> {
    if addresses.len() > MAX_ADDRESSES {
        let advice = format!("too many for one name, give {MAX_ADDRESSES} at most");
        let count = format!("{} addresses", addresses.len());
        return Err(FieldError::new("addresses", count, advice));
    }
    for address in addresses {
        check_unicast(*address)
            .map_err(|error| FieldError::new("addresses", address, error.to_string()))?;
    }
    Ok(())
}

crate::settings! {
    /// How names are pushed to a DNS server that exists already (RFC 2136).
    #[derive(Eq)]
    pub struct DnsPush {
        /// Address and port of the zone's primary server. It is reached by TCP.
        server: SocketAddr;
        /// File with the TSIG key that signs updates: a `key` statement as `tsig-keygen` prints it, or a line
        /// `ALGORITHM:NAME:SECRET`. It is read again for each connection.
        key_file: PathBuf;
        /// What marks names as those of this installation. Installations that share a zone have different ones.
        owner: Label = Label("lb".to_owned());
        /// How long a connection or an answer may take.
        timeout: Duration = Duration::from_secs(2), Duration::from_millis(100)..=Duration::from_secs(60);
    }
    validate(push) {
        if push.server.port() == 0 {
            return Err(FieldError::new("server", push.server, "give the server's port, usually 53"));
        }
        Ok(())
    }
}

crate::settings! {
    /// The names of load balancers in DNS: `LB.PROJECT.ZONE`.
    #[derive(Eq)]
    pub struct DnsSpec {
        /// The zone below which the names are, such as `lb.example.com`.
        zone: DomainName;
        /// Addresses and ports on which the zone is served, by UDP and TCP.
        listen: Vec<SocketAddr> = Vec::new();
        /// The zone's name servers, each with its addresses: `{ "ns1.lb.example.com" = ["192.0.2.1"] }`. A name server
        /// outside the zone has none.
        name_servers: BTreeMap<DomainName, Vec<IpAddr>> = BTreeMap::new();
        /// The mailbox of who answers for the zone, with a dot in place of the @. Default: `hostmaster` in the zone.
        contact: Option<DomainName> = None;
        /// How long resolvers may keep an address.
        ttl: Duration = Duration::from_secs(30), TTL;
        /// How long resolvers may keep the answer that a name does not exist.
        negative_ttl: Duration = Duration::from_secs(10), TTL;
        /// Clients that may transfer the zone (AXFR). Nobody may by default.
        transfer: Vec<Network> = Vec::new();
        /// Queries a second by UDP of one network of clients (/24, /56) above which answers are left out or shortened; 0 is
        /// without a limit.
        queries_per_second: u32 = 1_000, 0..=1_000_000;
        /// The most TCP connections to one listening address. One client has an eighth of them at most.
        @expert tcp_connections: u32 = 256, 8..=65_535;
        /// How long a TCP connection may be silent.
        @expert tcp_idle: Duration = Duration::from_secs(10), Duration::from_millis(100)..=Duration::from_secs(3_600);
        /// How often secondary servers look for a new serial number.
        @expert refresh: Duration = Duration::from_secs(60), TIMER;
        /// How soon secondary servers try again.
        @expert retry: Duration = Duration::from_secs(30), TIMER;
        /// How long secondary servers answer when they cannot reach this one.
        @expert expire: Duration = Duration::from_secs(7 * 86_400), TIMER;
        /// A DNS server that gets the names.
        push: Option<DnsPush> = None;
    }
    validate(dns) {
        let dns: &DnsSpec = dns;
        if dns.zone.0.len() > MAX_ZONE {
            let advice = format!("too long, give {MAX_ZONE} bytes at most");
            return Err(FieldError::new("zone", &dns.zone, advice));
        }
        if let Some(contact) = &dns.contact
            && !contact.0.contains('.')
        {
            let advice = "give MAILBOX.DOMAIN, such as hostmaster.example.com for hostmaster@example.com";
            return Err(FieldError::new("contact", contact, advice));
        }
        if let Some(socket) = dns.listen.iter().find(|socket| socket.port() == 0) {
            return Err(FieldError::new("listen", socket, "give a port, usually 53"));
        }
        let mut sockets = BTreeSet::new();
        if let Some(twice) = dns.listen.iter().find(|socket| !sockets.insert(**socket)) {
            return Err(FieldError::new("listen", twice, "given twice; remove one"));
        }
        for (name, addresses) in &dns.name_servers {
            check_name_server(&dns.zone, name, addresses).map_err(|error| error.within("name_servers"))?;
        }
        if !dns.listen.is_empty() && dns.name_servers.is_empty() {
            let advice = "a zone that is served needs a name server; give its name and addresses";
            return Err(FieldError::missing("name_servers", advice));
        }
        if dns.listen.is_empty() && dns.push.is_none() {
            let advice = "give addresses to serve the zone on, or push with the server that has it";
            return Err(FieldError::missing("listen", advice));
        }
        Ok(())
    }
}

/// Checks a name server of a zone.
fn check_name_server(
    zone: &DomainName,
    name: &DomainName,
    addresses: &[IpAddr],
) -> Result<(), FieldError> {
    let error = |value: &dyn fmt::Display, advice: &str| {
        Err(FieldError::new(name.as_str(), value, advice.to_owned()))
    };
    match name.below(zone) {
        // Two labels would be the name of a load balancer.
        Some(label) if label.contains('.') => {
            return error(name, "give a name with one label in front of the zone");
        }
        Some(_) if addresses.is_empty() => {
            return error(
                &"without addresses",
                "a name server in the zone needs addresses",
            );
        }
        None if name == zone => {
            return error(
                name,
                "the zone cannot be its own name server; give a name such as ns1 in it",
            );
        }
        None if !addresses.is_empty() => {
            return error(
                &"with addresses",
                "its addresses are served by its own zone; leave them out here",
            );
        }
        Some(_) | None => {}
    }
    check_addresses(&addresses.iter().copied().collect())
        .map_err(|error| error.within(name.as_str()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Level, Settings as _, from_map};

    fn read(value: serde_json::Value) -> Result<DnsSpec, String> {
        from_map(value.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_those_of_host_names() {
        let long = "a".repeat(MAX_LABEL);
        for good in ["web", "a", "1", "web-2", "xn--bcher-kva", &long] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        let longer = "a".repeat(MAX_LABEL + 1);
        for bad in [
            "", "-a", "a-", "Web", "a_b", "a.b", "bücher", "a b", &longer,
        ] {
            assert_eq!(bad.parse::<Label>(), Err(DomainError::Label(bad.into())));
        }
    }

    #[test]
    fn domains_have_one_form() {
        let name: DomainName = "LB.Example.COM.".parse().unwrap();
        assert_eq!(name.as_str(), "lb.example.com");
        for bad in ["", ".", "a..b", ".a", "a.-b", "_a.b", "a b.c"] {
            assert!(bad.parse::<DomainName>().is_err(), "{bad}");
        }
        let long = vec!["a".repeat(62); 5].join(".");
        assert_eq!(long.parse::<DomainName>(), Err(DomainError::Length(314)));
        let zone: DomainName = "example.com".parse().unwrap();
        let below = |text: &str| {
            text.parse::<DomainName>()
                .unwrap()
                .below(&zone)
                .map(str::to_owned)
        };
        assert_eq!(below("ns1.example.com").as_deref(), Some("ns1"));
        assert_eq!(below("a.b.example.com").as_deref(), Some("a.b"));
        for other in ["example.com", "badexample.com", "com"] {
            assert_eq!(below(other), None, "{other}");
        }
    }

    #[test]
    fn records_are_named_by_balancer_and_project() {
        let name: RecordName = "web.shop".parse().unwrap();
        assert_eq!(
            (name.balancer.as_str(), name.project.as_str()),
            ("web", "shop")
        );
        assert_eq!(name.to_string(), "web.shop");
        let zone = "lb.example.com".parse().unwrap();
        assert_eq!(name.in_zone(&zone).as_str(), "web.shop.lb.example.com");
        for bad in ["web", "a.b.c"] {
            assert_eq!(bad.parse::<RecordName>(), Err(DomainError::Record));
        }
        assert!("web.".parse::<RecordName>().is_err());
    }

    #[test]
    fn the_longest_names_fit() {
        let label: Label = "a".repeat(MAX_LABEL).parse().unwrap();
        let zone: DomainName = format!("{}.{}", "z".repeat(50), "y".repeat(49))
            .parse()
            .unwrap();
        assert_eq!(zone.as_str().len(), MAX_ZONE);
        let name = RecordName {
            project: label.clone(),
            balancer: label,
        };
        assert!(name.in_zone(&zone).as_str().parse::<DomainName>().is_ok());
    }

    #[test]
    fn settings_have_defaults_and_return_unchanged() {
        let dns = read(json!({
            "zone": "lb.example.com",
            "listen": ["192.0.2.1:53"],
            "name_servers": { "ns1.lb.example.com": ["192.0.2.1"], "ns.example.net": [] },
            "transfer": ["10.0.0.0/8", "2001:db8::1"],
            "push": { "server": "192.0.2.9:53", "key_file": "/etc/lb/dns.key" },
        }))
        .unwrap();
        assert_eq!(dns.ttl, Duration::from_secs(30));
        assert_eq!(dns.negative_ttl, Duration::from_secs(10));
        assert_eq!(dns.push.as_ref().unwrap().owner.as_str(), "lb");
        assert_eq!(from_map::<DnsSpec>(&dns.to_map()).unwrap(), dns);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let served = |field: &str, value: serde_json::Value| {
            let mut map = json!({
                "zone": "lb.example.com",
                "listen": ["192.0.2.1:53"],
                "name_servers": { "ns1.lb.example.com": ["192.0.2.1"] },
            });
            map[field] = value;
            read(map).unwrap_err()
        };
        let cases = [
            ("zone", json!("a..b"), "zone: a..b: \"\" is no label"),
            (
                "zone",
                json!(format!("{}.{}", "a".repeat(60), "b".repeat(60))),
                "too long, give 100",
            ),
            (
                "listen",
                json!(["192.0.2.1"]),
                "listen[0]: 192.0.2.1: give ADDRESS:PORT",
            ),
            (
                "listen",
                json!(["192.0.2.1:0"]),
                "listen: 192.0.2.1:0: give a port",
            ),
            (
                "listen",
                json!(["192.0.2.1:53", "192.0.2.1:53"]),
                "given twice",
            ),
            (
                "listen",
                json!([]),
                "listen: not set: give addresses to serve",
            ),
            (
                "name_servers",
                json!({}),
                "name_servers: not set: a zone that is served",
            ),
            (
                "name_servers",
                json!({ "a.b.lb.example.com": ["192.0.2.1"] }),
                "one label in front",
            ),
            (
                "name_servers",
                json!({ "lb.example.com": ["192.0.2.1"] }),
                "cannot be its own",
            ),
            (
                "name_servers",
                json!({ "ns1.lb.example.com": [] }),
                "needs addresses",
            ),
            (
                "name_servers",
                json!({ "ns.example.net": ["192.0.2.1"] }),
                "leave them out",
            ),
            (
                "name_servers",
                json!({ "ns1.lb.example.com": ["224.0.0.1"] }),
                "name_servers.ns1",
            ),
            ("ttl", json!("0s"), "ttl: 0s: out of range, give 1s to 1d"),
            ("ttl", json!(30), "ttl: 30: give a number with a unit"),
            ("transfer", json!(["10.0.0.0/33"]), "transfer[0]"),
            (
                "contact",
                json!("hostmaster"),
                "contact: hostmaster: give MAILBOX.DOMAIN",
            ),
            (
                "push",
                json!({ "server": "192.0.2.9:53" }),
                "push.key_file: not set",
            ),
            (
                "push",
                json!({ "server": "192.0.2.9:0", "key_file": "/k" }),
                "push.server",
            ),
            (
                "push",
                json!({ "server": "192.0.2.9:53", "key_file": "/k", "owner": "A" }),
                "push.owner",
            ),
            ("colour", json!("red"), "there is no such setting"),
        ];
        for (field, value, words) in cases {
            let error = served(field, value);
            assert!(error.contains(words), "{field}: {error}");
        }
    }

    #[test]
    fn addresses_are_those_a_client_can_use() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(check_addresses(&addresses(&["192.0.2.1", "2001:db8::1"])).is_ok());
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            assert!(check_addresses(&addresses(&[bad])).is_err(), "{bad}");
        }
        let many: Addresses = (0..=256_u32)
            .map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()))
            .collect();
        let error = check_addresses(&many).unwrap_err().to_string();
        assert!(error.contains("257 addresses"), "{error}");
    }

    /// `UPDATE_REFERENCE=1 cargo test -p lb-model dns` writes the tables anew.
    #[test]
    fn the_page_has_all_settings() {
        let fields = DnsSpec::fields();
        let of = |level| {
            let fields = fields.iter().filter(|field| field.level == level);
            crate::settings::reference_table(fields)
        };
        let settings = format!(
            "{}\nFor experts; the defaults fit unless a measurement says otherwise:\n\n{}",
            of(Level::Operator),
            of(Level::Expert),
        );
        crate::settings::keep_page("docs/dns.md", "dns", &settings);
    }
}
