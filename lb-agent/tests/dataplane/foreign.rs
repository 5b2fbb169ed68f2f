//! Pinned tables that a build cannot use: rejected, not changed, and removed by `detach`.

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use aya::maps::{Array, Map, MapData};
use lb_common::{
    reason::Reason,
    tables::{
        meta::{LAYOUT_VERSION, MAGIC, Meta},
        names,
    },
};
use lb_dataplane::{Dataplane as _, KernelDataplane, detach};

use crate::bench::{Bench, frame, service, simulate_until};
use crate::traffic::{Outer, Wire, packet_comes_back};

const VIP: &str = "192.0.2.1:9000/udp";

/// Bytes of a record of META.
const RECORD: usize = size_of::<Meta>();

fn meta_of(folder: &Path) -> Array<MapData, [u8; RECORD]> {
    let map = MapData::from_pin(folder.join(names::META)).unwrap();
    Map::from_map_data(map).unwrap().try_into().unwrap()
}

fn write_word(folder: &Path, offset: usize, word: u32) {
    let mut meta = meta_of(folder);
    let mut record = meta.get(&0, 0).unwrap();
    record[offset..offset + 4].copy_from_slice(&word.to_ne_bytes());
    meta.set(0, record, 0).unwrap();
}

/// Pins an array of one value of another size in the place of a table.
fn replace_by_other_form(path: &Path, value_size: u32) {
    const MAP_CREATE: libc::c_long = 0;
    const OBJ_PIN: libc::c_long = 6;
    const ARRAY: u32 = 2;
    std::fs::remove_file(path).unwrap();
    let attributes: [u32; 5] = [ARRAY, 4, value_size, 1, 0];
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: bpf(2) reads as many bytes of the attributes as the given size says; the descriptor is new.
    let map = unsafe {
        let fd = libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        );
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    };
    let pin: [u64; 2] = [name.as_ptr() as u64, map.as_raw_fd() as u64];
    // SAFETY: as above; the name and the descriptor live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_PIN, pin.as_ptr(), size_of_val(&pin)) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Names and map ids below a folder of pins.
fn pinned(folder: &Path) -> Vec<(String, u32)> {
    let mut pins = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pins.extend(pinned(&path));
        } else {
            let id = MapData::from_pin(&path).map_or(0, |map| map.info().unwrap().id());
            pins.push((path.display().to_string(), id));
        }
    }
    pins.sort();
    pins
}

/// An agent leaves its tables, `spoil` changes them, and the next agent must reject them with these words.
fn is_rejected(case: &str, words: &[&str], spoil: impl Fn(&Path)) {
    let bench = Bench::new();
    let _passing = bench.start_passing();
    let mut plane = bench.start();
    plane
        .set_service(&service(VIP, &["10.7.0.2"], 256))
        .unwrap();
    simulate_until(&mut plane, &frame("198.51.100.7", 1, VIP, false), |seen| {
        seen.reason == Reason::ForwardedTx
    });
    drop(plane);
    let wire = Wire::of(&bench);
    packet_comes_back(&bench, &wire, VIP, Outer::Ip4);
    let folder = bench.pins.join("maps-1");
    spoil(&folder);

    let before = pinned(&bench.pins);
    let record = meta_of_any(&folder);
    let error = rejection(bench.try_start(bench.options()));
    let pins = bench.pins.display().to_string();
    for word in words.iter().chain(&["lb-agent detach", &pins]) {
        assert!(error.contains(word), "{case}: no {word:?} in {error:?}");
    }
    assert_eq!(pinned(&bench.pins), before, "{case}");
    assert_eq!(meta_of_any(&folder), record, "{case}");
    packet_comes_back(&bench, &wire, VIP, Outer::Ip4);

    assert_eq!(
        detach(&bench.pins, false).unwrap(),
        ["back", "front"],
        "{case}"
    );
    assert!(!bench.pins.exists(), "{case}");
    assert!(!bench.start().status().adopted, "{case}");
}

fn rejection<E: std::fmt::Display>(result: Result<KernelDataplane, E>) -> String {
    match result {
        Ok(_) => panic!("it was adopted"),
        Err(error) => error.to_string(),
    }
}

/// The record of META; `None` if the table has another form.
fn meta_of_any(folder: &Path) -> Option<[u8; RECORD]> {
    let map = MapData::from_pin(folder.join(names::META)).unwrap();
    (map.info().unwrap().value_size() as usize == RECORD)
        .then(|| meta_of(folder).get(&0, 0).unwrap())
}

fn tables_of_layout_are_rejected(layout: u32, advice: &str) {
    let words = [&format!("layout {layout}"), advice];
    is_rejected("layout", &words, |folder| {
        write_word(folder, std::mem::offset_of!(Meta, layout), layout);
    });
}

pub fn tables_of_a_newer_layout_are_rejected() {
    let advice = format!("lb-agent migrate --layout {LAYOUT_VERSION}");
    tables_of_layout_are_rejected(LAYOUT_VERSION + 1, &advice);
}

pub fn tables_older_than_the_previous_layout_are_rejected() {
    tables_of_layout_are_rejected(LAYOUT_VERSION - 2, "upgrade in two steps");
}

pub fn tables_with_another_magic_are_rejected() {
    is_rejected("magic", &["not lb-agent's"], |folder| {
        write_word(folder, std::mem::offset_of!(Meta, magic), !(MAGIC as u32));
    });
}

pub fn a_table_of_another_value_size_is_rejected() {
    is_rejected("form", &["values of 128 bytes"], |folder| {
        replace_by_other_form(&folder.join(names::META), 128);
    });
}

pub fn a_table_that_packets_do_not_use_is_rejected() {
    is_rejected("exchanged", &["their tables are not pinned"], |folder| {
        replace_by_other_form(&folder.join(names::SERVICES), 128);
    });
}
