//! What becomes of packets, as tables: each case is a frame that comes in and what the data plane makes of it. The same
//! tables run on the program in the kernel, by test runs, and on the tables in memory.
//!
//! `README.md` describes the form of the tables; who adds a case needs no Rust. Expected frames are built by an encoder of
//! this suite, which shares no code with what it tests.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod decode;
mod encode;
mod notation;
mod planes;
mod refusals;
mod run;
mod selftest;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lb_tests::{
    harness::{
        Harness,
        Requirement::{self, BpfFs, Program, Root},
        Test,
    },
    tests,
};

use crate::table::Table;

/// Requirements of a data plane in the kernel.
const KERNEL: &[Requirement] = &[Root, BpfFs, Program("ip")];

/// Declares the tables. Each has a test in memory and one in the kernel.
macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        /// Names of the tables.
        const TABLES: &[&str] = &[$(stringify!($name)),*];

        fn in_memory_tests() -> Vec<Test> {
            vec![$(Test {
                name: concat!("memory::", stringify!($name)),
                run: || Ok(in_memory(stringify!($name))),
            }),*]
        }

        fn in_kernel_tests() -> Vec<Test> {
            vec![$(Test {
                name: concat!("kernel::", stringify!($name)),
                run: || Ok(in_kernel(stringify!($name))),
            }),*]
        }
    };
}

tables!(
    ipip,
    gue,
    l2,
    nat,
    nat_between,
    nat_client,
    nat_errors,
    nat_fragments,
    next_hops,
    ttl,
    too_big,
    icmp_errors,
    echo,
    ip_headers,
    fragments,
    malformed,
    flags,
    ethernet,
    empty,
    down,
    wide,
    source_rules,
    server_ids,
    flow_limits,
    tunnel_ends,
    checksums,
);

/// The folder of the tables. They are read when the tests run: who changes one builds nothing.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/tables")
}

fn table(name: &str) -> Table {
    let file = format!("{name}.table");
    let path = folder().join(&file);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    table::read(&file, &text).unwrap_or_else(|error| panic!("{error}"))
}

fn in_memory(name: &str) {
    let mut table = table(name);
    let mut plane = planes::Memory::new(&table);
    run::run(&mut table, &mut plane);
}

/// Runs a table in the kernel, and in memory beside it.
fn in_kernel(name: &str) {
    let bed = table(name);
    planes::Kernel::with(&bed, |plane| {
        let kernel = run::run(&mut table(name), plane);
        let memory = run::run(&mut table(name), &mut planes::Memory::new(&bed));
        run::agree(&bed, &kernel, &memory);
    });
}

fn main() -> ExitCode {
    Harness::new(&[])
        .tests(tests![
            selftest::every_table_is_read_and_listed,
            selftest::every_frame_can_be_described,
            selftest::what_is_wrong_in_a_table_is_said_with_its_line,
            selftest::the_encoder_writes_what_another_one_writes,
            selftest::a_failure_shows_both_frames,
            refusals::reals_that_no_packet_could_reach_are_refused,
        ])
        .tests(in_memory_tests())
        .tests_with(KERNEL, in_kernel_tests())
        .run()
}
