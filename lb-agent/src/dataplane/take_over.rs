//! The index of an engine, rebuilt from the tables an earlier agent left.

use std::{collections::HashMap, net::IpAddr};

use lb_common::{
    limits::SLOTS_PER_CHUNK,
    tables::{
        real::{ADDRESS_V6, DELETED, Real, SHED},
        service::{RESET_EMPTY, TRACK_ALL},
        vip::ECHO_SERVICE,
    },
    vip::VipAddress,
};

use super::{
    Counters, DataplaneError, Forward,
    engine::{Dying, Engine, RealState, ServiceState},
    home::Home,
    keys,
    services::reached,
    window,
};

impl<H: Home> Engine<H> {
    /// Rebuilds the index from the tables. An agent may have died between any two stores: what no VIP
    /// leads to is freed, what a change had half-done is finished by the next `set_service`.
    pub(super) fn take_over(&mut self) -> Result<(), DataplaneError> {
        let now = self.home.now();
        let layout = self.home.layout();
        let mut echo = Vec::new();
        let mut by_index = HashMap::new();
        for (key, service) in self.home.vips()? {
            match keys::vip_of(&key) {
                Some(vip) if service != ECHO_SERVICE && service < layout.services => {
                    if by_index.insert(service, vip).is_some() {
                        return Err(DataplaneError::System {
                            operation: format!(
                                "reading the VIP tables: service {service} has two VIPs"
                            ),
                            source:
                                "the tables contradict themselves; `lb-agent detach` removes them"
                                    .into(),
                        });
                    }
                }
                _ if service == ECHO_SERVICE => echo.push(key),
                _ => self.home.remove_vip(key)?,
            }
        }
        for (&index, &vip) in &by_index {
            self.service_indices.claim(index);
            self.count_address(&vip);
            let state = self.found_service(index, vip, now);
            self.services.insert(vip, state);
        }
        for index in 1..layout.reals {
            self.found_real(index, &by_index, now);
        }
        for key in echo {
            if !self.addresses.contains_key(&keys::address_of(&key)) {
                self.home.remove_vip(key)?;
            }
        }
        for address in self.addresses.keys().copied().collect::<Vec<_>>() {
            self.home
                .insert_vip(keys::echo_key(address), ECHO_SERVICE)?;
        }
        self.home.set_config_flags(self.config_flags());
        Ok(())
    }

    fn found_service(&mut self, index: u32, vip: VipAddress, now: u32) -> ServiceState {
        let record = self.home.service(index);
        let (mut first_slot, mut slots) = (record.ring as u32, (record.ring >> 32) as u32);
        let end = u64::from(first_slot) + u64::from(slots);
        let sound = slots == 0
            || (slots.is_power_of_two()
                && first_slot.is_multiple_of(SLOTS_PER_CHUNK)
                && end <= u64::from(self.home.layout().ring_slots)
                && self.extents.is_free(first_slot, slots));
        if !sound {
            self.warnings
                .push(format!("the ring of {vip} was damaged; it is made anew"));
            self.home.set_ring_place(index, 0);
            (first_slot, slots) = (0, 0);
        }
        let tracks = record.flags & TRACK_ALL != 0;
        // In its first window a service of UDP has tracked every flow since it was made, without an agent, too.
        let track_until = (tracks && record.track_until != 0)
            .then_some(record.track_until)
            .filter(|&until| !reached(now, until));
        // Later, since when is not known any more.
        let complete_from = match track_until {
            Some(_) => record.made,
            None => now.wrapping_add(record.window),
        };
        let mut state = ServiceState {
            index,
            vip,
            forward: Forward::Ipip,
            track_all: tracks,
            reset_empty: record.flags & RESET_EMPTY != 0,
            track_until,
            complete_from: tracks.then_some(complete_from),
            window: record.window,
            reals: Vec::new(),
            first_slot,
            slots,
            begun: Vec::new(),
            next_end: None,
            unsettled: 0,
            exceptions_since: now,
            retired: Counters::default(),
        };
        if slots != 0 {
            self.extents.claim(first_slot, slots);
            // When the windows began is not known any more, so they begin again.
            if (0..slots).any(|i| window::in_window(self.home.slot(first_slot + i))) {
                state.begun = vec![now; slots as usize];
                state.next_end = Some(now.wrapping_add(state.window));
            }
            state.unsettled = (0..slots)
                .filter(|i| window::unsettled(self.home.slot(first_slot + i)))
                .count() as u32;
        }
        state
    }

    fn found_real(&mut self, index: u32, by_index: &HashMap<u32, VipAddress>, now: u32) {
        let real = self.home.real(index);
        if real.flags == 0 {
            return;
        }
        self.real_indices.claim(index);
        let hop = (real.next_hop != 0 && real.next_hop < self.home.layout().next_hops).then(|| {
            let hop = self.home.next_hop(real.next_hop);
            self.hops.claim(real.next_hop, &hop);
            hop
        });
        let index = index as u16;
        let service = by_index
            .get(&real.service)
            .and_then(|vip| self.services.get_mut(vip));
        match service {
            Some(state) if real.flags & DELETED == 0 => {
                let address = address_of(&real);
                if let Some(forward) = Forward::of_mode(real.mode()) {
                    state.forward = forward;
                }
                state.reals.push(RealState {
                    index,
                    address,
                    hop,
                    returned: None,
                });
                if real.flags & SHED != 0 {
                    self.shedding.push(index);
                }
                self.want(address);
            }
            _ => self.dying.push(Dying {
                index,
                service: real.service,
                since: now,
                hop,
            }),
        }
    }
}

/// The address in a record.
fn address_of(real: &Real) -> IpAddr {
    if real.flags & ADDRESS_V6 == 0 {
        let [a, b, c, d, ..] = real.address;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(real.address)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::engine::{mode_flags, octets},
        *,
    };

    #[test]
    fn a_record_gives_its_address_back() {
        for (address, forward) in [
            ("10.1.0.2", Forward::Ipip),
            ("2001:db8::2", Forward::Ipip),
            ("10.1.0.2", Forward::L2),
            ("2001:db8::2", Forward::L2),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let real = Real {
                flags: mode_flags(address, forward),
                address: octets(address),
                ..Real::default()
            };
            assert_eq!(address_of(&real), address);
        }
    }
}
