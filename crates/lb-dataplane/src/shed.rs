//! Ending flows of a real that has more than its share, so many and no more.

use std::net::IpAddr;

use lb_common::tables::real::SHED;
use lb_model::vip::{Protocol, VipAddress};

use super::{DataplaneError, engine::Engine, home::Home};

impl<H: Home> Engine<H> {
    /// See [`super::Dataplane::shed`].
    ///
    /// # Errors
    /// As there.
    pub fn shed(
        &mut self,
        vip: &VipAddress,
        real: IpAddr,
        flows: u32,
    ) -> Result<u32, DataplaneError> {
        let fault = |why| DataplaneError::CannotShed {
            vip: *vip,
            real,
            why,
        };
        if vip.protocol != Protocol::Tcp {
            return Err(fault("only flows of TCP can be reset; drain it instead"));
        }
        let state = self
            .services
            .get(vip)
            .ok_or_else(|| fault("the data plane has no such VIP"))?;
        let index = state
            .reals
            .iter()
            .find(|of| of.address == real)
            .map(|of| of.index)
            .ok_or_else(|| fault("the VIP has no such real"))?;
        let left = match self.shedding.contains(&index) {
            true => self.home.budget(index.into()),
            false => 0,
        };
        // Whoever sees the flag sees the budget.
        self.home.set_budget(index.into(), i64::from(flows));
        let flags = self.home.real(index.into()).flags;
        if flows > 0 && !self.shedding.contains(&index) {
            self.shedding.push(index);
            self.home.set_real_flags(index.into(), flags | SHED);
        }
        self.end_shedding();
        Ok(u32::try_from(left).unwrap_or(0))
    }

    /// Spares packets to ask for budgets that are spent.
    pub(super) fn end_shedding(&mut self) {
        let home = &mut self.home;
        self.shedding.retain(|index| {
            let index = u32::from(*index);
            let goes_on = home.budget(index) > 0;
            if !goes_on {
                let flags = home.real(index).flags;
                home.set_real_flags(index, flags & !SHED);
            }
            goes_on
        });
    }
}
