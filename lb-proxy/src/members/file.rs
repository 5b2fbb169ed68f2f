//! Instances of a file: `ADDRESS:PORT [WEIGHT]` or `NAME:PORT [WEIGHT]` a line, `#` begins a comment. It is read again when it
//! changes.

use std::{
    fs::Metadata,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::{
    config::MemberAddress,
    service::{Listed, Service},
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The weight of instances without one.
const WEIGHT: u32 = 100;
/// Bytes that the file may have.
const MOST: u64 = 4 << 20;

/// Keeps a service's instances those of a file.
pub async fn follow(path: &Path, port: Option<u16>, service: &Arc<Service>) -> ! {
    let mut read = None;
    loop {
        let stamp = tokio::fs::metadata(path).await.ok().as_ref().map(stamp);
        if stamp.is_none() || read != stamp {
            match members(path, port).await {
                Ok(members) => {
                    // What could not be read is not read: it is tried again, although the file does not change.
                    read = stamp;
                    tracing::info!(
                        "service {}: {} members in {}",
                        service.name,
                        members.len(),
                        path.display()
                    );
                    service.list(members);
                    service.source.followed(None);
                }
                Err(error) => {
                    let why = format!("{}: {error}", path.display());
                    if service.source.lost(&why) {
                        tracing::error!(
                            "service {}: {why}; the instances stay as they are",
                            service.name
                        );
                    }
                }
            }
        } else {
            // The file is back as it was.
            service.source.followed(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Stamp = (u64, Option<std::time::SystemTime>, u64);

fn stamp(metadata: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.len(), metadata.modified().ok(), metadata.ino())
}

async fn members(path: &Path, port: Option<u16>) -> Result<Vec<Listed>, String> {
    let metadata = tokio::fs::metadata(path)
        .await
        .map_err(|error| error.to_string())?;
    if metadata.len() > MOST {
        return Err(format!("it has more than {MOST} bytes"));
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| error.to_string())?;
    parse(&text, port)
}

fn parse(text: &str, port: Option<u16>) -> Result<Vec<Listed>, String> {
    let mut members = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let wrong = |what: &str| Err(format!("line {}: {what}", number + 1));
        let Some(address) = MemberAddress::read(address, port) else {
            return wrong("write ADDRESS:PORT or NAME:PORT; the port may be that of the service");
        };
        let weight = match words.next().map(str::parse) {
            None => WEIGHT,
            Some(Ok(weight)) if weight <= 65_535 => weight,
            Some(_) => return wrong("the weight is a number from 0 to 65535"),
        };
        if words.next().is_some() {
            return wrong("write ADDRESS:PORT and a weight, nothing more");
        }
        members.push(Listed { address, weight });
    }
    Ok(members)
}

/// Reads an address, whose port may be that of the service.
pub(crate) fn address_of(text: &str, port: Option<u16>) -> Option<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let address: IpAddr = text.trim_matches(['[', ']']).parse().ok()?;
            Some(SocketAddr::new(address, port?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_instances() {
        let text = "# the web servers\n10.0.0.1:80\n\n10.0.0.2:80 50 # half\n2001:db8::1 0\n\
                    Backend.test:81 7\nbackend-2.test.\n";
        let members = parse(text, Some(8080)).unwrap();
        let found: Vec<_> = members
            .iter()
            .map(|member| (member.address.to_string(), member.weight))
            .collect();
        let expected = [
            ("10.0.0.1:80", 100),
            ("10.0.0.2:80", 50),
            ("[2001:db8::1]:8080", 0),
            ("backend.test:81", 7),
            ("backend-2.test.:8080", 100),
        ]
        .map(|(address, weight)| (address.to_owned(), weight));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, words) in [
            ("10.0.0.1", "line 1: write ADDRESS:PORT"),
            ("backend.test", "line 1: write ADDRESS:PORT or NAME:PORT"),
            ("\na/b:80", "line 2"),
            ("10.0.0.300:80", "line 1"),
            ("backend..test:80", "line 1"),
            ("backend.test:0", "line 1"),
            ("10.0.0.1:80 x", "weight"),
            ("10.0.0.1:80 70000", "weight"),
            ("10.0.0.1:80 1 2", "nothing more"),
        ] {
            let error = parse(text, None).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
