//! What a virtual machine is made from.

use std::path::PathBuf;

use super::Size;
use crate::settings::{FieldError, NOT_SET};

/// What a virtual machine has unless something else is set.
const DEFAULT_RAM: Size = Size(128 << 20);

crate::choice! {
    /// The board that is emulated.
    pub enum Board = Pc {
        /// The classic PC (i440FX).
        Pc = "pc",
        /// A PC with PCI Express.
        Q35 = "q35",
    }
}

crate::choice! {
    /// How a disk image is laid out.
    pub enum DiskFormat = Qcow2 {
        /// QEMU's own format.
        Qcow2 = "qcow2",
        /// The bytes of the disk.
        Raw = "raw",
    }
}

crate::choice! {
    /// How a machine starts.
    pub enum Boot = Cold {
        /// Its kernel boots.
        Cold = "cold",
        /// From the saved state of a machine that has booted, which the driver makes once on each host. The guest must
        /// wait for what it is to run, as that of `cargo xtask image` does; until there is a state, the kernel boots.
        Saved = "saved",
    }
}

crate::settings! {
    /// A virtual machine of the driver `qemu`: a kernel, or a disk image, or both.
    #[derive(Eq)]
    pub struct Vm {
        /// Processors.
        vcpus: u32 = 1, 1..=256;
        /// Memory of the guest.
        ram: Size = DEFAULT_RAM, Size(32 << 20)..=Size(1 << 44);
        /// Kernel image. Without it the machine boots from its disk.
        kernel: Option<PathBuf> = None;
        /// File system in memory for the kernel.
        initrd: Option<PathBuf> = None;
        /// Command line of the kernel.
        append: String = "console=ttyS0 quiet panic=-1".to_owned();
        /// Disk image. Each instance writes to a layer of its own above it (copy-on-write), and the image stays as it is.
        disk: Option<PathBuf> = None;
        /// How the disk image is laid out.
        disk_format: DiskFormat = DiskFormat::Qcow2;
        /// File with user data of cloud-init. With it, or with a disk and no kernel, the machine has a small disk named
        /// CIDATA with its name, its address and a copy of this file (the data source NoCloud).
        user_data: Option<PathBuf> = None;
        /// How it starts.
        boot: Boot = Boot::Cold;
        /// The board that is emulated.
        board: Board = Board::Pc;
    }
    validate(vm) {
        let vm: &Vm = vm;
        if vm.kernel.is_none() && vm.disk.is_none() {
            return Err(FieldError::missing("kernel", "give a kernel with an initrd, or a disk to boot from"));
        }
        if vm.kernel.is_none() && vm.initrd.is_some() {
            return Err(FieldError::new("kernel", NOT_SET, "an initrd needs a kernel; give both"));
        }
        if vm.boot == Boot::Saved && vm.disk.is_some() {
            let advice = "a saved state has no disk; leave the disk out, or give boot = cold";
            return Err(FieldError::new("boot", "saved", advice));
        }
        if vm.append.contains(['\0', '\n']) {
            return Err(FieldError::new("append", format!("{:?}", vm.append), "give one line"));
        }
        Ok(())
    }
}

impl Vm {
    /// Whether it has a disk with what cloud-init asks for.
    #[must_use]
    pub const fn has_seed(&self) -> bool {
        self.user_data.is_some() || self.kernel.is_none()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::SettingType as _;

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (value, field) in [
            (json!({}), "kernel"),
            (json!({ "initrd": "/a", "disk": "/b" }), "kernel"),
            (json!({ "kernel": "a" }), "kernel"),
            (json!({ "disk": "a" }), "disk"),
            (json!({ "disk": "/a", "boot": "saved" }), "boot"),
            (json!({ "kernel": "/a", "append": "a\nb" }), "append"),
            (json!({ "kernel": "/a", "ram": "1MiB" }), "ram"),
            (json!({ "kernel": "/a", "vcpus": 0 }), "vcpus"),
            (json!({ "kernel": "/a", "board": "isa" }), "board"),
        ] {
            let error = Vm::from_json(&value).expect_err(field);
            assert_eq!(error.field, field, "{error}");
        }
        let vm = Vm::from_json(&json!({ "kernel": "/k", "ram": "256MiB" })).unwrap();
        assert_eq!(
            (vm.vcpus, vm.ram, vm.has_seed()),
            (1, Size(256 << 20), false)
        );
        assert!(Vm::from_json(&json!({ "disk": "/d" })).unwrap().has_seed());
    }
}
