//! Ending flows of a real that has more than its share, so many and no more.

use std::net::IpAddr;

use lb_common::{
    tables::real::SHED,
    vip::{Protocol, VipAddress},
};

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
            .map(|of| u32::from(of.index))
            .ok_or_else(|| fault("the VIP has no such real"))?;
        // Whoever sees the flag must see the budget.
        let left = self.home.budget(index);
        self.home.set_budget(index, i64::from(flows));
        let flags = self.home.real(index).flags;
        let wanted = if flows == 0 {
            flags & !SHED
        } else {
            flags | SHED
        };
        if wanted != flags {
            self.home.set_real_flags(index, wanted);
        }
        Ok(u32::try_from(left).unwrap_or(0))
    }
}
