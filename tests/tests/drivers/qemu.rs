//! The driver `qemu`: what every driver must do. The suite `vms` has the rest.

use std::sync::Arc;

use lb_drivers::{Driver, qemu::QemuDriver};
use lb_model::pool::{Boot, Launch, Network, Vm};
use lb_tests::{Namespace, guest};

use crate::{
    conformance::{self, Subject, script},
    process::{Processes, runtime},
};

/// Machines whose guests run scripts.
struct Machines(Processes);

impl Subject for Machines {
    fn open(&mut self, owner: &str) -> anyhow::Result<Arc<dyn Driver>> {
        let settings = lb_model::settings::defaults();
        let owned = self.0.owned(owner);
        Ok(Arc::new(QemuDriver::open(&settings, &owned)?))
    }

    fn launch(&self, name: &str, text: &str) -> Launch {
        let map = serde_json::json!({
            "kernel": guest("vmlinuz"),
            "initrd": guest("initrd-bare"),
            "boot": Boot::Saved.name(),
        });
        let vm = lb_model::settings::from_map::<Vm>(map.as_object().unwrap()).unwrap();
        // A port for each name: several run at once.
        let port = name.bytes().fold(7_u16, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        Launch {
            vm: Some(vm),
            endpoint: ([127, 0, 0, 1], 10_000 + port % 20_000).into(),
            network: Network::Host {
                inner_port: Some(80),
            },
            ..script(name, text)
        }
    }

    /// One that is ended by force ends as if its guest had been switched off.
    fn sees_endings(&self) -> bool {
        false
    }

    fn spoil(&self, launch: &mut Launch) {
        if let Some(vm) = &mut launch.vm {
            vm.kernel = Some("/there/is/no/kernel".into());
        }
    }

    /// What a guest takes is its own memory.
    fn is_killed_for_memory(&self) -> bool {
        false
    }
}

pub fn conforms() -> anyhow::Result<()> {
    let namespace = Namespace::new("machines")?;
    namespace.enter(|| {
        let processes = Processes::new("qemu")?;
        let owner = processes.owner.clone();
        let mut machines = Machines(processes);
        runtime()?.block_on(conformance::conforms(&mut machines, &owner))
    })?
}
