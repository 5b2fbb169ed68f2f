//! The registries that know the kinds a VIP's components can have.

use super::{RealSpec, Refusal, Vip, VipSpec};
use crate::{component::Registry, load::LoadSource, settings::FieldError};

/// The registries of one program.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// Probes of health checks.
    pub probes: &'static Registry,
    /// Readers of load.
    pub readers: &'static Registry,
    /// Controllers of steering.
    pub controllers: &'static Registry,
    /// Ways of shedding connections.
    pub sheds: &'static Registry,
}

impl Kinds {
    /// Checks the components of a VIP's settings and fills in the defaults of their kinds.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a field of `spec`.
    pub fn normalize_vip(&self, spec: &mut VipSpec) -> Result<(), Refusal> {
        let at = |field: &'static str| move |error: FieldError| error.within(field).within("spec");
        if let Some(check) = &mut spec.check {
            *check = self.probes.normalize(check).map_err(at("check"))?;
        }
        for (position, source) in spec.load.iter_mut().enumerate() {
            *source = self
                .normalize_source(source)
                .map_err(|error| error.within(format!("[{position}]")))
                .map_err(at("load"))?;
        }
        if let Some(steering) = &mut spec.steering {
            *steering = self
                .controllers
                .normalize(steering)
                .map_err(at("steering"))?;
        }
        spec.shed = self.sheds.normalize(&spec.shed).map_err(at("shed"))?;
        Ok(())
    }

    /// Checks a source of load and fills in the defaults of its kind.
    ///
    /// # Errors
    /// The setting that cannot have its value.
    pub fn normalize_source(&self, source: &LoadSource) -> Result<LoadSource, FieldError> {
        self.readers.normalize(source)
    }

    /// The sources of a real's load, with the settings that differ for it.
    #[must_use]
    pub fn sources(&self, vip: &Vip, real: &RealSpec) -> Vec<LoadSource> {
        let of = |source: &LoadSource| {
            let Some(change) = real.load.iter().find(|change| change.name == source.name()) else {
                return Some(source.clone());
            };
            // A change was checked against the source as it was then; if the source has changed since so that it does
            // not fit, the source is as the VIP says.
            match change.apply(source) {
                Ok(None) => None,
                Ok(Some(changed)) => Some(
                    self.normalize_source(&changed)
                        .unwrap_or_else(|_| source.clone()),
                ),
                Err(_) => Some(source.clone()),
            }
        };
        vip.spec.load.iter().filter_map(of).collect()
    }

    /// Whether the check of a VIP runs a program on the balancer.
    #[must_use]
    pub fn runs_program(&self, spec: &VipSpec) -> bool {
        spec.check.as_ref().is_some_and(|check| {
            self.probes
                .find(&check.probe.kind)
                .is_ok_and(|kind| kind.runs_program)
        })
    }
}
