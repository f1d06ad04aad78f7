//! What a kernel has to lock the listener in with, and what this one lacks of it.

use std::fmt;

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};

use crate::crash;

/// A layer of the listener's sandbox that a kernel may lack. The others (user, capabilities, no_new_privs, limits) every
/// kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Files and TCP connections, as far as the kernel's version of Landlock goes.
    Landlock,
    /// A list of system calls.
    Seccomp,
}

impl Layer {
    /// What the running kernel lacks.
    pub fn missing() -> Vec<Layer> {
        [Layer::Landlock, Layer::Seccomp].into_iter().filter(|layer| layer.is_missing()).collect()
    }

    /// Whether the running kernel lacks it.
    pub fn is_missing(self) -> bool {
        !self.is_there() || crash::lacks(self)
    }

    /// How an administrator gets it.
    pub fn hint(self) -> &'static str {
        match self {
            Layer::Landlock => {
                "Linux has it since 5.13: boot with `lsm=landlock,...` if /sys/kernel/security/lsm names it not"
            }
            Layer::Seccomp => {
                "Linux has it on x86_64, aarch64 and riscv64, if built with CONFIG_SECCOMP_FILTER"
            }
        }
    }

    fn is_there(self) -> bool {
        match self {
            // Makes a ruleset, and enforces it on nobody.
            Layer::Landlock => Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(AccessFs::from_all(ABI::V1))
                .and_then(Ruleset::create)
                .is_ok(),
            Layer::Seccomp => {
                seccompiler::TargetArch::try_from(std::env::consts::ARCH).is_ok()
                    && rustix::thread::secure_computing_mode().is_ok()
            }
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Landlock => "Landlock",
            Layer::Seccomp => "seccomp filters",
        })
    }
}
